"""Synthetic probes: is a message answered, and does each channel work? Tried for real, and recorded.

`api` and `http` send a marked message into a session of their own (`probe/api`, `probe/http`), straight to Temporal
and through the gateway, and wait for the answer. Other channels that are configured try themselves, as `channels
status --probe` has them do: Slack posts, reads back and deletes.
"""

import time
import uuid
from collections.abc import Awaitable, Callable, Sequence

from agent_session.remote.sessions import Sessions
from agent_session.settings import BadSettings, Settings
from agent_session.telemetry.probes import PROBLEM_CHARS, Probe
from channels import channel_names, missing

API, HTTP = "api", "http"
ITSELF = ("cli", "heartbeat")  #: no way in or out of their own: `api` is what they use
WORDS = "This is a synthetic probe of the service: please answer with the word OK and do nothing else. ({mark})"
SENDER = "probe"


def probed_channels(settings: Settings) -> list[str]:
    """What can be probed as things are configured: with nothing but a gateway's URL, that gateway."""
    from agent_session.connection import configured_address

    ways = [API] if configured_address(settings) or not settings.gateway.url else []
    ways += [HTTP] if _gateway(settings) is not None else []
    names = [name for name in channel_names() if name not in ITSELF and not missing(name, settings)]
    return [*ways, *names] if API in ways else ways


def chosen(settings: Settings, asked: Sequence[str]) -> list[str]:
    """Those asked for, or all. Errors: BadSettings for one that cannot be probed here."""
    known = probed_channels(settings)
    if not known:
        raise BadSettings("there is nothing to probe: no Temporal is set, and no gateway")
    for name in asked:
        if name not in known:
            raise BadSettings(f"{name!r} cannot be probed here: {_why_not(name, settings)}; can be: {', '.join(known)}")
    return list(dict.fromkeys(asked)) or known


def _why_not(name: str, settings: Settings) -> str:
    if name == HTTP:
        return f"no gateway runs on {settings.data_dir}, and gateway.url is not set"
    if name in channel_names():
        return missing(name, settings) or "it is used through api, or only without gateway.url"
    return "there is no such channel"


async def probe(settings: Settings, channel: str, *, timeout_s: float) -> Probe:
    """Try one. Whatever goes wrong is its outcome."""
    ways: dict[str, Callable[[Settings, float], Awaitable[str]]] = {API: _api, HTTP: _http}
    at, began = time.time(), time.monotonic()
    try:
        if channel in ways:
            problem = await ways[channel](settings, timeout_s)
        else:
            problem = await _itself(settings, channel)
    except Exception as error:  # the other channels are probed all the same
        problem = str(error).partition("\n")[0] or type(error).__name__
    seconds = round(time.monotonic() - began, 3)
    return Probe(channel=channel, ok=not problem, seconds=seconds, at=at, problem=problem[:PROBLEM_CHARS])


async def _api(settings: Settings, timeout_s: float) -> str:
    from agent_session.remote.local_sessions import LocalSessions

    return await _asked(await LocalSessions.connect(settings, channel="probe"), API, timeout_s)


async def _http(settings: Settings, timeout_s: float) -> str:
    from agent_session.remote.client import RemoteSessions

    found = _gateway(settings)
    assert found is not None
    async with RemoteSessions.of(found) as sessions:
        return await _asked(sessions, HTTP, timeout_s)


async def _asked(sessions: Sessions, way: str, timeout_s: float) -> str:
    """Empty when the answer came."""
    key, mark = f"probe/{way}", uuid.uuid4().hex[:12]
    receipt = await sessions.send(key, WORDS.format(mark=mark), id=f"probe-{mark}", sender=SENDER, timeout_s=timeout_s)
    reply = await sessions.await_reply(key, receipt.id, timeout_s=timeout_s)
    return "" if reply.ok else f"the turn ended {reply.outcome}: {reply.text}"


async def _itself(settings: Settings, channel: str) -> str:
    from agent_session.connection import connect
    from agent_session.ops.channel_status import looked_at

    (found,) = await looked_at(await connect(settings), settings, [channel], probe=True)
    return found.problem


def _gateway(settings: Settings) -> Settings | None:
    """Settings that reach the gateway: of `gateway.url`, or the one that runs on this data directory."""
    from agent_session.gateway.address import read_gateway

    if settings.gateway.url:
        return settings
    local = read_gateway(settings.data_dir)
    if local is None:
        return None
    return settings.model_copy(update={"gateway": settings.gateway.model_copy(update={"url": local.url})})
