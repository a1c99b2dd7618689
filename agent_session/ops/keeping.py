"""Something that must go on living: started again whenever it ends, with a pause that grows while it dies young."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

QUICK_DEATH_S = 5.0
LONGEST_PAUSE_S = 5.0

log = structlog.get_logger("agent_session.keeping")


async def keep(what: str, live: Callable[[], Awaitable[object]], *, died: Callable[[], None] = lambda: None) -> None:
    """Live after live, until cancelled. Whatever ends one is logged, and `died` is called."""
    pause = 0.0
    while True:
        began = time.monotonic()
        try:
            outcome = str(await live())
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            outcome = "cancelled"  # by something within: a library that lost a task of its own
        except Exception as error:  # whatever it is: nobody else would start it again
            outcome = f"{type(error).__name__}: {error}"[:500]
        died()
        pause = next_pause(pause, time.monotonic() - began)
        log.warning(f"{what} died; it is started again", outcome=outcome, pause_s=pause)
        await asyncio.sleep(pause)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def next_pause(pause: float, lived_s: float) -> float:
    """At once after a good life, else doubling up to 5 s."""
    return 0.0 if lived_s > QUICK_DEATH_S else min(max(pause * 2, 0.25), LONGEST_PAUSE_S)
