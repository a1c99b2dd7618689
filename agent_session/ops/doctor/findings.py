"""What a check found, and the time that it may take. Standard library only."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"
LONGEST_WORDS = 400
T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """One sentence. `todo` is the next thing to do, empty when there is nothing."""

    check: str  #: `volume.lock`: stable, for scripts
    result: str  #: ok, warning, failed, or skipped: it does not apply here, or cannot be told
    words: str
    todo: str = ""
    figures: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())  #: what was measured, units in the names


def ok(check: str, words: str, **figures: Any) -> Finding:
    return Finding(check, OK, words, "", figures)


def warning(check: str, words: str, todo: str, **figures: Any) -> Finding:
    return Finding(check, WARNING, words, todo, figures)


def failed(check: str, words: str, todo: str, **figures: Any) -> Finding:
    return Finding(check, FAILED, words, todo, figures)


def skipped(check: str, words: str, todo: str = "") -> Finding:
    return Finding(check, SKIPPED, words, todo)


def words_of(error: BaseException) -> str:
    """An error for a person: its first line, an OSError with its file. The caller keeps secrets out of it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return (str(error).splitlines() or [""])[0][:LONGEST_WORDS] or type(error).__name__


def broken(check: str, error: BaseException) -> Finding:
    """A check that could not be made."""
    kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
    return failed(check, f"could not be checked: {kind}{words_of(error)}", "mend that, and run doctor again")


def too_slow(check: str, within_s: float) -> Finding:
    todo = "a mount or a server hangs: look at it there, then run doctor again"
    return failed(check, f"no answer within {within_s:g} s", todo)


async def aside(work: Callable[[], T]) -> T:
    """What `work` returns, from a thread that nobody waits for at the end: a mount may hang for ever. Errors: those of
    `work`."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except Exception as error:
            _tell(loop, done, lambda error=error: done.set_exception(error))
        else:
            _tell(loop, done, lambda: done.set_result(result))

    threading.Thread(target=run, name="doctor", daemon=True).start()
    return await done


def _tell(loop: asyncio.AbstractEventLoop, done: "asyncio.Future[Any]", tell: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended: nobody waits any more
        loop.call_soon_threadsafe(lambda: None if done.done() else tell())


async def in_a_thread(check: str, within_s: float, work: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What `work` found within its time, and that it took longer or broke off where it did."""
    found: list[Finding] = []

    def run() -> None:
        for one in work():
            found.append(one)

    try:
        async with asyncio.timeout(within_s):
            await aside(run)
    except TimeoutError:
        return [*found, too_slow(check, within_s)]
    except Exception as error:
        return [*found, broken(check, error)]
    return found


async def in_time(check: str, within_s: float, work: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """As `in_a_thread`, for what does not block."""
    try:
        async with asyncio.timeout(within_s):
            return await work()
    except TimeoutError:
        return [too_slow(check, within_s)]
    except Exception as error:
        return [broken(check, error)]
