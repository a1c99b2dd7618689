"""One session, driven at once by a terminal, Slack (two people in one thread), HTTP and a heartbeat every second,
while its workers are killed: each message is answered once, in its own place, in order; heartbeats give way.

`MANY_CHANNELS_S=300 SLACK_DOWN_S=60 make e2e` takes five minutes over it, and a minute over the second test; the
default is a short form.
"""

import asyncio
import json
import os
import re
import signal
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from agent_session.gateway.address import read_gateway
from agent_session.gateway.tokens import TOKEN_FILE
from tests.e2e.support import Up, running, wait_until
from tests.fakes.slack import FakeSlack, fake_slack

SECONDS = float(os.environ.get("MANY_CHANNELS_S", "30"))
KEY = "many"
KILL_EVERY_S = 7.0
DOWN_S = float(os.environ.get("SLACK_DOWN_S", "6"))
WORDS = re.compile(r"word-[a-z]+-\d+")
PATIENCE_S = 120.0


class Talk:
    """What was said where, in order, until the time is over."""

    def __init__(self, slack: FakeSlack, up: Up) -> None:
        self._slack, self._up = slack, up
        self.said: dict[str, list[str]] = {"cli": [], "http": [], "ann": [], "bob": []}
        self.heard: dict[str, list[str]] = {"cli": [], "http": []}
        self.thread = ""
        self._ends = time.monotonic() + SECONDS

    def _next(self, who: str) -> str:
        word = f"word-{who}-{len(self.said[who])}"
        self.said[who].append(word)
        return f"remember {word}"

    @property
    def _goes_on(self) -> bool:
        return time.monotonic() < self._ends

    async def in_a_terminal(self) -> None:
        while self._goes_on:
            done = await asyncio.to_thread(self._up.run, "send", KEY, self._next("cli"), timeout_s=PATIENCE_S)
            assert done.returncode == 0, done.stderr
            self.heard["cli"] += WORDS.findall(done.stdout)

    async def over_http(self) -> None:
        token = (self._up.data_dir / TOKEN_FILE).read_text().strip()
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
            while self._goes_on:
                self.heard["http"] += WORDS.findall(await self._asked(http, self._next("http")))

    async def _asked(self, http: aiohttp.ClientSession, text: str) -> str:
        """As a client does: again, under the same key, until it is answered."""
        id, deadline = uuid.uuid4().hex, time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = read_gateway(self._up.data_dir)
            if found is not None:
                url, body = f"{found.url}/v1/sessions/{KEY}/messages?wait=30", {"text": text}
                try:
                    async with http.post(url, json=body, headers={"Idempotency-Key": id}) as answer:
                        said: dict[str, Any] = await answer.json()
                    if answer.status == 200:
                        return str(said["text"])
                except aiohttp.ClientError:
                    pass
            await asyncio.sleep(0.3)
        raise TimeoutError(text)

    async def in_slack(self, user: str, who: str, pause_s: float) -> None:
        while self._goes_on:
            self._slack.mentions(user, self._next(who), channel="C1", thread=self.thread)
            await asyncio.sleep(pause_s)

    async def kills(self) -> int:
        killed = 0
        while self._goes_on:
            await asyncio.sleep(KILL_EVERY_S)
            for worker in self._up.workers()[:1]:
                os.kill(worker, signal.SIGKILL)
                killed += 1
        return killed

    def posted(self) -> list[str]:
        """What the app said in the thread, oldest first."""
        return [word for text in self._slack.texts("C1", self.thread) for word in WORDS.findall(text)]


def environment(slack: FakeSlack) -> dict[str, str]:
    given = slack.settings(owners="U1", allowed_users="U2", allowed_channels="C1", routes='{"thread": "many"}')
    return {f"AGENT_SESSION_SLACK__{name.upper()}": value for name, value in given.items()}


async def test_one_session_is_driven_from_everywhere_at_once_under_kills(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with fake_slack() as slack:
        with running(data, "--workers", "2", **environment(slack)) as up:
            talk = Talk(slack, up)
            await slack.until(lambda: slack.events.connections)
            await _begin_a_heartbeat(up)
            talk.thread = slack.mentions("U1", "remember word-first-0", channel="C1")
            *_, killed = await asyncio.gather(
                talk.in_a_terminal(), talk.over_http(), talk.in_slack("U1", "ann", 1.1),
                talk.in_slack("U2", "bob", 1.7), talk.kills(),
            )  # fmt: skip
            in_slack = [*talk.said["ann"], *talk.said["bob"]]
            await slack.until(lambda: set(in_slack) <= set(talk.posted()), PATIENCE_S)
            status = wait_until(lambda: _quiet(up), PATIENCE_S)
            lines = up.lines(KEY)
    assert killed >= 3
    _each_is_answered_once_in_its_place(talk, lines)
    _heartbeats_gave_way(lines, status)


async def _begin_a_heartbeat(up: Up) -> None:
    begun = await asyncio.to_thread(up.run, "send", KEY, "remember word-begin-0")
    assert begun.returncode == 0, begun.stderr
    (up.workspace(KEY) / "HEARTBEAT.md").write_text("Look around.\n")
    made = await asyncio.to_thread(up.run, "heartbeat", "set", KEY, "--every", "1s", "--target", "none")
    assert made.returncode == 0, made.stderr


def _quiet(up: Up) -> str:
    off = up.run("heartbeat", "pause", KEY)
    shown = up.run("status", KEY)
    return shown.stdout if off.returncode == 0 and "· idle" in shown.stdout else ""


def _each_is_answered_once_in_its_place(talk: Talk, lines: list[dict[str, Any]]) -> None:
    asked = Counter(word for line in lines if line["role"] == "user" for word in WORDS.findall(line["content"]))
    for who, said in talk.said.items():
        assert said, who
        assert {word: asked[word] for word in said} == dict.fromkeys(said, 1), "taken in by exactly one turn"
    assert talk.heard["cli"] == talk.said["cli"]
    assert talk.heard["http"] == talk.said["http"]
    posted = talk.posted()
    assert Counter(posted) == Counter([*talk.said["ann"], *talk.said["bob"], "word-first-0"]), "once, and no others'"
    for who in ("ann", "bob"):
        assert [word for word in posted if word in talk.said[who]] == talk.said[who], "in order"


def _heartbeats_gave_way(lines: list[dict[str, Any]], status: str) -> None:
    beats = [line for line in lines if line["role"] == "user" and line.get("kind") == "heartbeat"]
    assert beats or "beat" in status, "none ran, and nothing says why"
    assert [line["seq"] for line in lines if line.get("outcome") == "failed"] == [], "no turn failed"


async def test_replies_that_are_due_while_the_slack_process_is_down_arrive_after_it_returns_once(
    tmp_path: Path,
) -> None:
    async with fake_slack() as slack:
        with running(tmp_path / "data") as up:
            up.environment |= environment(slack)
            first = up.start("slack")
            await slack.until(lambda: slack.events.connections)
            thread = slack.mentions("U1", "run sleep 2 && echo word-slow-1", channel="C1")
            await asyncio.to_thread(wait_until, lambda: _is_running(up))
            first.kill()
            asked = await asyncio.to_thread(up.run, "send", KEY, "remember word-cli-1", "--no-wait")
            assert asked.returncode == 0, asked.stderr
            await asyncio.sleep(DOWN_S)
            status = json.loads((await asyncio.to_thread(up.run, "status", KEY, "--json")).stdout)
            assert (status["state"], status["deliveries"]) == ("idle", 1), "the reply waits, and nothing else does"
            second = up.start("slack")
            try:
                await slack.until(lambda: slack.texts("C1", thread), PATIENCE_S)
                await asyncio.to_thread(wait_until, lambda: '"deliveries": 0' in up.run("status", KEY, "--json").stdout)
            finally:
                second.terminate()
                second.wait(15)
    assert len(slack.texts("C1", thread)) == 1
    assert "word-slow-1" in slack.texts("C1", thread)[0]


def _is_running(up: Up) -> bool:
    return any(line.get("event") == "started" for line in up.lines(KEY)) if up.data_dir.exists() else False
