"""The commands about heartbeats, as a person runs them."""

import asyncio
import json
import os
import pty
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_session.operations import workspace_of
from channels import load_channel
from tests.e2e.support import COMMAND, clean_environment
from tests.support import Service, fresh_key


@dataclass
class Done:
    code: int
    out: str
    said: str


class Person:
    """Somebody at a shell beside the service."""

    def __init__(self, service: Service) -> None:
        self.service, self.key = service, fresh_key("cmd")
        more = {
            "AGENT_SESSION_TEMPORAL__ADDRESS": service.settings.temporal.address,
            "AGENT_SESSION_TASK_QUEUE": service.settings.task_queue,
        }
        self._environment = clean_environment(service.settings.data_dir, **more)

    async def __call__(self, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL) -> Done:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            env=self._environment,
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, said = await process.communicate()
        return Done(process.returncode or 0, out.decode(), said.decode())

    async def heartbeat(self, command: str, *options: str) -> Done:
        return await self("heartbeat", command, self.key, *options)

    async def at_a_terminal(self, answer: str, *arguments: str) -> Done:
        """With this answer typed ahead."""
        ours, theirs = pty.openpty()
        try:
            os.write(ours, answer.encode())
            return await self(*arguments, stdin=theirs)
        finally:
            os.close(ours)
            os.close(theirs)

    @property
    def file(self) -> Path:
        return workspace_of(self.service.volume, self.key) / "HEARTBEAT.md"


@pytest.fixture
async def person(make_service: Callable[..., Awaitable[Service]]) -> AsyncIterator[Person]:
    service = await make_service()
    async with service.worker("file"):
        made = Person(service)
        yield made
        await made.heartbeat("off")


async def test_a_heartbeat_is_set_shown_asked_for_paused_and_taken_away(person: Person) -> None:
    await person.service.ask(person.key, "remember me")
    person.file.write_text("look at the disk\n")
    options = (
        "--every",
        "30m",
        "--active",
        "08:00-23:00",
        "--tz",
        "Europe/Rome",
        "--target",
        "file:out",
        "--jitter",
        "10s",
    )
    done = await person.heartbeat("set", *options)
    assert done.code == 0, done.said
    assert "  | look at the disk" in done.said, "what is approved is shown"
    assert (
        f"{person.key} · active · every 30m, up to 10s later · 08:00-23:00 (Europe/Rome) · answers to file:out"
        in done.out
    )
    done = await person("heartbeat", "show", person.key, "--json")
    (shown,) = json.loads(done.out)
    assert (shown["every_s"], shown["time_zone"], shown["target"], shown["content"]) == (
        1_800, "Europe/Rome", "file:out", "approved",
    )  # fmt: skip
    assert shown["next_s"] > 0
    done = await person.heartbeat("now")
    assert (done.code, done.out) == (0, ""), done.said
    await person.service.until(person.key, lambda status: status.beats == 1)
    status = await person("status", person.key)
    assert "heartbeats: 1 ran" in status.out
    assert json.loads((await person("status", person.key, "--json")).out)["beats"] == 1
    assert (await person.heartbeat("pause")).out.startswith(f"{person.key} · paused")
    assert (await person.heartbeat("resume")).out.startswith(f"{person.key} · active")
    assert (await person.heartbeat("off")).code == 0
    done = await person.heartbeat("show")
    assert (done.code, "heartbeat set" in done.said) == (3, True)


async def test_what_was_changed_is_shown_and_approved_with_nothing_hidden(person: Person) -> None:
    await person.service.ask(person.key, "remember me")
    done = await person.heartbeat("set", "--target", "none")
    assert "has nothing in it" in done.said
    assert "nothing approved" in done.out
    person.file.write_text("look at the disk\x1b[2K\n")
    done = await person.heartbeat("now")
    assert (done.code, done.said) == (1, "skipped: HEARTBEAT.md is not approved as it is now\n")
    done = await person.heartbeat("show")
    assert "HEARTBEAT.md: changed" in done.out
    assert "skipped since" in done.out
    done = await person.heartbeat("approve")
    assert done.code == 0, done.said
    assert "  | look at the disk\\x1b[2K" in done.said
    assert "HEARTBEAT.md: approved, by local:" in (await person.heartbeat("show")).out
    assert (await person.heartbeat("now")).code == 0


async def test_at_a_terminal_a_person_is_asked_and_no_is_no(person: Person) -> None:
    await person.service.ask(person.key, "remember me")
    await person.heartbeat("set", "--target", "none")
    person.file.write_text("look at the disk\n")
    approve = ("heartbeat", "approve", person.key)
    refused = await person.at_a_terminal("n\n", *approve)
    assert (refused.code, "Run this at every beat?" in refused.said) == (0, True)
    assert "nothing approved" in refused.out
    assert (await person.heartbeat("now")).code == 1
    agreed = await person.at_a_terminal("y\n", *approve)
    assert "nothing approved" not in agreed.out
    assert "Run this" not in (await person.at_a_terminal("", *approve)).said, "it is approved already"
    assert (await person.heartbeat("now")).code == 0


BAD = {
    "--every 0s": "too short",
    "--every soon": "'soon' is no time span",
    "--every 10s --jitter 10s": "must be shorter",
    "--active 8-23": "'8-23' are not understood",
    "--tz Europe/Roma": "'Europe/Roma' is no time zone",
    "--target somewhere": "'somewhere' is no target",
    "--target nowhere:x": "no channel 'nowhere'",
    "--target cli:x": "delivers nothing",
    "--target file:a/b": "'a/b' is no file name",
}


async def test_what_cannot_be_set_is_refused_by_name(person: Person) -> None:
    with person.service.volume.session_folder(person.key, create=True):
        pass
    for options, words in BAD.items():
        done = await person.heartbeat("set", *options.split())
        assert (done.code, words in done.said, "Traceback" in done.said) == (2, True, False), (options, done.said)
    assert (await person.heartbeat("show")).code == 3, "nothing was set"


async def test_a_session_that_never_was_gets_no_heartbeat(person: Person) -> None:
    done = await person.heartbeat("set", "--every", "30m")
    assert (done.code, "send it a message first" in done.said) == (3, True)
    for command in ("now", "approve", "resume"):
        assert (await person.heartbeat(command)).code == 3, command


async def test_the_channels_self_test_says_whether_schedules_can_be_read(person: Person) -> None:
    await person.service.ask(person.key, "remember me")
    await person.heartbeat("set", "--every", "1s")
    settings = person.service.settings
    assert person.key not in await load_channel("heartbeat", settings).probe()
    away = settings.model_copy(update={"temporal": settings.temporal.model_copy(update={"address": "127.0.0.1:1"})})
    assert "schedules cannot be read: Temporal at 127.0.0.1:1" in await load_channel("heartbeat", away).probe()
