"""Two builds side by side, the second with workflow code that cannot replay the first one's histories: every turn goes
on, every reply comes once, and afterwards the first build's workers are needed by nobody."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent_session.client import Reply
from agent_session.domain.ids import workflow_id
from tests.deploys.support import Site, builds_of, site_of, tree_of_another_build
from tests.support import Service, check_transcript, fresh_key, until_true

WAITING = "waiting approval"


class Talk:
    """One person in one session, who says the next thing once the last one is answered."""

    def __init__(self, service: Service, place: str = "") -> None:
        self.service, self.key = service, fresh_key()
        self.address = f"file:{self.key}" if place else ""
        self.replies: list[Reply] = []
        self.longest_s = 0.0

    async def say(self, words: str) -> Reply:
        began = time.monotonic()
        how = {"reply_address": self.address} if self.address else {}
        reply: Reply = await self.service.client.ask(self.key, words, id=f"m{len(self.replies)}", timeout_s=90, **how)
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        self.replies.append(reply)
        assert reply.ok, reply
        return reply

    async def go_on(self, stop: asyncio.Event, words: str) -> None:
        while not stop.is_set():
            await self.say(words.format(len(self.replies)))
            await asyncio.sleep(0.2)

    def posted(self) -> list[str]:
        path = self.service.settings.data_dir / "channels" / "file" / f"{self.key}.jsonl"
        return [json.loads(line)["text"] for line in path.read_text().splitlines()] if path.exists() else []


async def decide(service: Service, key: str) -> None:
    (call,) = service.client.waiting_calls(key, await service.until(key, lambda status: status.state == WAITING))
    await service.client.resolve(key, call["call"], call["digest"], "allow")


async def test_twenty_sessions_move_to_a_new_build_and_no_turn_fails(
    make_service: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sessions that talk, that have a slow tool running, that are idle, that wait for an approval, with a background
    job; and a channel whose process is deployed anew in the middle."""
    service: Service = await make_service()
    new = tree_of_another_build(tmp_path / "new")
    async with site_of(service, tmp_path / "logs", TOOLS__ASK="write_file") as site:
        talking = [Talk(service, "file") for _ in range(8)]
        slow, idle = [Talk(service) for _ in range(5)], [Talk(service) for _ in range(5)]
        asking, with_job = Talk(service), Talk(service)
        everybody = [*talking, *slow, *idle, asking, with_job]
        old_workers, channel = [site.worker("v1"), site.worker("v1")], site.channel("file")
        await site.deployed("current", "v1")
        await asyncio.gather(*(one.say(f"remember {one.key}") for one in everybody))
        await with_job.say('call shell_start {"command": "echo started; sleep 100"}')

        stop = asyncio.Event()
        people = [asyncio.create_task(one.go_on(stop, "remember {}")) for one in talking]
        people += [asyncio.create_task(one.go_on(stop, "run sleep 3; echo done {}")) for one in slow]
        asked = asyncio.create_task(asking.say("write it.txt hello"))
        await service.until(asking.key, lambda status: status.state == WAITING)
        once = await service.client.start_once("write once.txt hello")
        await service.until(once.session, lambda status: status.state == WAITING)
        assert {await build_of(service, one.key) for one in everybody} == {"v1"}

        began = time.monotonic()
        new_workers = [site.worker("v2", new), site.worker("v2", new)]
        await site.deployed("current", "v2")
        current_s = time.monotonic() - began
        await site.stop(channel)
        channel = site.channel("file", new)
        drained = await site.deployed("drain", "v1", "--timeout", "60")
        drained_s = time.monotonic() - began - current_s
        (moved,) = re.findall(r"v1 is drained: (\d+) sessions moved", drained)
        assert 7 <= int(moved) <= 21, "those that talk move by themselves; the idle and the waiting ones do not"
        assert "running" in (await with_job.say("call shell_poll {}")).text, "its worker is still there"
        versions = await until_true(partial(all_on, site, "v2", 21))
        assert (versions["v1"]["sessions"], versions["v1"]["state"] != "current") == (0, True)

        await site.stop(*old_workers)
        gone_s = time.monotonic() - began
        await decide(service, asking.key)
        await decide(service, once.session)
        await asyncio.sleep(2)  # people go on talking with only the new workers there
        stop.set()
        await asyncio.gather(*people, asked)
        assert (await service.client.await_reply(once.session, once.id, timeout_s=30)).ok
        assert "lost" in (await with_job.say("call shell_poll {}")).text, "it died with its worker, and says so"
        for one in everybody:
            assert one.key in (await one.say("what did I say?")).text or len(one.replies) > 10
            check_transcript(service.lines(one.key))
            builds = await builds_of(service, one.key)
            assert (builds[0], set(builds[1:])) == ("v1", {"v2"}), f"{one.key} moves once, and not back: {builds}"
            (ended,) = [{line["outcome"] for line in service.lines(one.key) if line.get("event") == "ended"}]
            assert ended == {"answered"}
        await posted_once(talking)
        assert all(process.alive for process in (*new_workers, channel))

        turns = sum(len(one.replies) for one in everybody) + 1
        with capsys.disabled():
            print(
                f"\nrolling deploy: {len(everybody)} sessions, {turns} turns, 0 failed; v2 started and current in "
                f"{current_s:.1f} s, v1 drained in {drained_s:.1f} s, v1's workers gone after {gone_s:.1f} s; longest "
                f"wait for a reply {max(one.longest_s for one in talking):.1f} s, with a 3 s tool "
                f"{max(one.longest_s for one in slow):.1f} s\n{drained.strip()}"
            )


async def build_of(service: Service, key: str) -> str:
    """As its worker says; on a busy machine it may not answer at once."""
    return str((await service.until(key, lambda status: status.build_id != "")).build_id)


async def all_on(site: Site, build: str, sessions: int) -> dict[str, dict[str, Any]]:
    """The versions, once Temporal counts that many sessions on that one: a moment later; else nothing."""
    versions = await site.versions()
    return versions if versions[build]["sessions"] == sessions else {}


async def posted_once(talking: list[Talk]) -> None:
    """Each reply stands once where it was to be delivered, in order; through two processes of the channel."""
    async with asyncio.timeout(30):
        while any(len(one.posted()) < len(one.replies) for one in talking):
            await asyncio.sleep(0.1)
    for one in talking:
        assert one.posted() == [reply.text for reply in one.replies]


async def test_an_idle_session_waits_for_its_own_build_and_goes_on_when_that_is_back(
    make_service: Callable[..., Any], tmp_path: Path
) -> None:
    """What a drain is for: when workers stop without one, their sessions hang, and no other code can help."""
    service: Service = await make_service()
    new = tree_of_another_build(tmp_path / "new")
    async with site_of(service, tmp_path / "logs") as site:
        old = site.worker("v1")
        await site.deployed("current", "v1")
        one, another = Talk(service), Talk(service)
        await one.say("remember blue")
        await another.say("remember red")
        site.worker("v2", new)
        await site.deployed("current", "v2")
        await site.stop(old)
        said = asyncio.create_task(one.say("what did I say?"))
        assert not (await asyncio.wait({said}, timeout=3))[0], "nobody else may take it"
        stuck = await site.deploy("drain", "v1", "--gone", "--timeout", "5")
        assert (stuck.returncode, one.key in stuck.stdout, another.key in stuck.stdout) == (1, True, True), stuck
        assert not said.done(), "v2 cannot replay a history of v1: pinning is what keeps them apart"
        site.worker("v1")
        assert "blue" in (await said).text
        assert "v1 is drained" in await site.deployed("drain", "v1", "--timeout", "60")
        assert "red" in (await another.say("what did I say?")).text
        assert await build_of(service, another.key) == "v2"
        with pytest.raises(AssertionError, match="NON_DETERMINISTIC"):
            await builds_of(service, one.key)  # so this is what the other tests would see


async def test_sessions_of_a_build_that_is_gone_for_good_are_taken_by_one_that_can_replay_them(
    make_service: Callable[..., Any], tmp_path: Path
) -> None:
    service: Service = await make_service()
    async with site_of(service, tmp_path / "logs") as site:
        old = site.worker("v1")
        await site.deployed("current", "v1")
        talks = [Talk(service) for _ in range(3)]
        await asyncio.gather(*(one.say(f"remember {one.key}") for one in talks))
        site.worker("v2")
        await site.deployed("current", "v2")
        await site.stop(old)
        said = asyncio.create_task(talks[0].say("what did I say?"))
        await asyncio.sleep(0.5)
        assert "3 sessions moved" in await site.deployed("drain", "v1", "--gone", "--timeout", "60")
        assert talks[0].key in (await said).text
        for one in talks[1:]:
            assert one.key in (await one.say("what did I say?")).text
            assert await build_of(service, one.key) == "v2"
            described = (await service.temporal.get_workflow_handle(workflow_id(one.key)).describe()).raw_description
            info = described.workflow_execution_info.versioning_info
            assert not info.HasField("versioning_override"), "it is free to move again"
        await until_true(partial(all_on, site, "v2", 3))  # they are pinned again
