"""What a service uses beside Temporal and the volume: sandbox, live bus, gateway, channels, model."""

import asyncio
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Generator
from typing import Any

import orjson

from agent_session.ops.doctor.directory import runs_here
from agent_session.ops.doctor.findings import Finding, aside, failed, ok, skipped, warning, words_of
from agent_session.settings import BadSettings, Settings

ANSWER_S = 5.0
QUESTION = "Say OK."
ANSWER_TOKENS = 1024  #: some models think before they answer, and that counts


def sandbox_checks(settings: Settings) -> Generator[Finding]:
    """Whether shell commands are confined on this host."""
    from agent_session.sandbox.confinement import confinement_of

    shell = settings.tools.shell
    found = confinement_of(shell)
    if found.refused:
        yield failed("sandbox", f"commands are refused: {found.refused}", "install it, or set tools.shell.sandbox")
    elif found.asks:
        todo = "see docs/security.md; in a container bubblewrap needs user namespaces"
        yield warning("sandbox", f"each command asks a person: {found.asks}", todo)
    elif found.sandbox == "none":
        todo = "leave tools.shell.sandbox at auto, unless the whole host is a sandbox"
        yield warning("sandbox", "commands run unconfined and unasked", todo)
    else:
        yield ok("sandbox", f"commands run confined ({found.label})")


async def live_checks(settings: Settings) -> list[Finding]:
    """The live bus: Redis, or the socket of the `up` of this data directory."""
    if not settings.live.url.get_secret_value():
        if not await aside(lambda: runs_here(settings.data_dir)):
            return [skipped("live", "live.url is not set: watchers of this host only, while agent-session up runs")]
        return [await _local_bus(settings)]
    from agent_session.live.redis_connection import redis_address

    try:
        connection = redis_address(settings.live.url).connection(ANSWER_S)
    except BadSettings as error:
        return [failed("live", words_of(error), "correct live.url")]
    try:
        await connection.call(["PING"])
        return [ok("live", "Redis answers")]
    except OSError as error:
        return [failed("live", words_of(error), "start it, or correct live.url; turns go on without watchers")]
    finally:
        await connection.close()


async def _local_bus(settings: Settings) -> Finding:
    from agent_session.live.socket_path import SOCKET, socket_address

    try:
        with socket_address(settings.data_dir) as address:
            _, writer = await asyncio.open_unix_connection(address)
        writer.close()
        return ok("live", f"{SOCKET} takes watchers of this host")
    except OSError as error:
        return failed("live", f"{SOCKET}: {words_of(error)}", "start agent-session up again: its relay is gone")


async def gateway_checks(settings: Settings) -> list[Finding]:
    """The gateway of `gateway.url`, else the one that was found on this host."""
    from agent_session.gateway.address import read_gateway
    from agent_session.gateway.tokens import refuse_open_without_token

    if settings.gateway.url:
        return [await _remote(settings)]
    try:
        refuse_open_without_token(settings.gateway)
    except BadSettings as error:
        first, _, todo = str(error).partition("\n")
        return [failed("gateway", first, " ".join(todo.split()))]
    found = await aside(lambda: read_gateway(settings.data_dir))
    if found is None:
        return [skipped("gateway", "none runs on this host for this directory", "agent-session gateway starts one")]
    return [await aside(lambda: _ready(found.url))]


async def _remote(settings: Settings) -> Finding:
    from agent_session.remote.client import RemoteSessions

    try:
        async with RemoteSessions.of(settings) as remote:
            await remote.check()
        return ok("gateway", f"{settings.gateway.url} answers and takes our token")
    except Exception as error:  # of its own kinds, each with words for a person
        return failed("gateway", words_of(error), "look at gateway.url and gateway.token_file, and whether it runs")


def _ready(url: str) -> Finding:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=ANSWER_S) as answer:
            answer.read()
        return ok("gateway", f"{url} is ready")
    except urllib.error.HTTPError as error:
        said: Any = orjson.loads(error.read() or b"{}") if error.code == 503 else dict[str, Any]()
        lacks = [name for name in ("temporal", "volume", "worker") if said.get(name) is False]
        words = f"{url} answers {error.code}" + (f": no {', no '.join(lacks)}" if lacks else "")
        return failed("gateway", words, "see to what it lacks; its log: agent-session logs")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        return failed("gateway", f"{url} does not answer: {why}", "start it again: agent-session gateway")


def channel_checks(settings: Settings) -> Generator[Finding]:
    """Which channels have what they need; one that nobody configured is no problem."""
    from channels import channel_names, load_channel, missing

    configured: list[str] = []
    for name in channel_names():
        try:
            load_channel(name, settings)
            lacking = missing(name, settings)
        except Exception as error:  # another package's channel: anything may come
            yield failed(
                "channels", f"{name}: {words_of(error)}", f"correct {name}.* in the settings: docs/channels.md"
            )
            continue
        if not lacking:
            configured.append(name)
        elif _touched(settings, name):
            yield warning(
                "channels", f"{name} is configured in part: {lacking}", "set what it lacks, or unset the rest"
            )
    yield ok(
        "channels", f"configured: {', '.join(configured) or 'none'}; agent-session channels status --probe tries them"
    )


def _touched(settings: Settings, name: str) -> bool:
    """Whether anything of the channel's settings was set."""
    part = getattr(settings, name, None)
    return part is not None and part != type(part)()


async def model_checks(settings: Settings, *, ask: bool) -> list[Finding]:
    """Whether the model in force can be used here; with `ask`, whether it answers, which costs a few tokens."""
    from agent_session.models import ModelFault, load_model, model_name

    name = model_name(settings)
    most = min(ANSWER_TOKENS, settings.model.max_output_tokens)
    limits = settings.model.model_copy(update={"max_output_tokens": most})
    try:
        model = await aside(lambda: load_model(settings.model_copy(update={"model": limits})))
    except ModelFault as error:
        kind = failed if ask else warning
        return [kind("model", words_of(error), "set it where the workers run; this check is for their host")]
    if name == "offline":
        todo = "set model.name, or a provider's API key, where the workers run"
        return [warning("model", "the offline model answers: no provider is chosen here", todo)]
    if not ask:
        return [ok("model", f"{name} can be used; doctor --model asks it, which costs a few tokens")]
    from agent_session.models.base import Prompt

    line = {"v": 1, "seq": 1, "turn": "t-doctor", "n": 1, "role": "user", "content": QUESTION}
    prompt = Prompt("Answer in one word.", [line], [], session="doctor", turn="t-doctor", n=1, step=1)
    began = asyncio.get_running_loop().time()
    try:
        said = await model.answer(prompt, lambda _: None)
    except ModelFault as error:
        return [failed("model", f"{name}: {words_of(error)}", "correct the key, the name or model.base_url")]
    took = asyncio.get_running_loop().time() - began
    words = f"{name} answered after {took:.1f} s, for {said.input_tokens} + {said.output_tokens} tokens"
    return [ok("model", words, seconds=round(took, 2), cost_microusd=said.cost_microusd)]


def host_words() -> str:
    return f"{socket.gethostname()}, uid {os.geteuid()}"
