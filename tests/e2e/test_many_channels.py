"""One session, driven at once by a terminal, Slack (two people in one thread), HTTP and a heartbeat every second,
while its workers are killed: each message is answered once, in its own place, in order; heartbeats give way.

`MANY_CHANNELS_S=300 SLACK_DOWN_S=60 pytest -s tests/e2e/test_many_channels.py` takes five minutes over it, and a
minute over the second test; the default is a short form. Both print what they saw.
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
import pytest

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
BEATS = "beats"  #: the heartbeat's own place, of the channel `file`


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
    beats = {"AGENT_SESSION_HEARTBEAT__DAILY_TOKENS": "0"}  # in a long talk a few beats would use up the day's
    return {f"AGENT_SESSION_SLACK__{name.upper()}": value for name, value in given.items()} | beats


@pytest.mark.timeout(SECONDS + 3 * PATIENCE_S)
async def test_one_session_is_driven_from_everywhere_at_once_under_kills(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with fake_slack() as slack:
        with running(data, "--workers", "2", **environment(slack)) as up:
            await slack.until(lambda: slack.events.connections)
            await _begin_a_heartbeat(up)
            talk = Talk(slack, up)
            talk.thread = slack.mentions("U1", "remember word-first-0", channel="C1")
            *_, killed = await asyncio.gather(
                talk.in_a_terminal(), talk.over_http(), talk.in_slack("U1", "ann", 1.1),
                talk.in_slack("U2", "bob", 1.7), talk.kills(),
            )  # fmt: skip
            in_slack = [*talk.said["ann"], *talk.said["bob"]]
            await slack.until(lambda: set(in_slack) <= set(talk.posted()), PATIENCE_S)
            await asyncio.to_thread(up.run, "heartbeat", "pause", KEY)
            status, beats, lines = await asyncio.to_thread(wait_until, lambda: _settled(up), PATIENCE_S)
    _tell(talk, killed, lines, beats, status)
    assert killed >= 3
    assert [line["seq"] for line in lines if line.get("outcome") == "failed"] == [], "no turn failed"
    _each_is_answered_once_in_its_place(talk, lines)
    _heartbeats_gave_way(lines, status)
    _each_beat_is_answered_once_in_its_place(lines, beats)


async def _begin_a_heartbeat(up: Up) -> None:
    begun = await asyncio.to_thread(up.run, "send", KEY, "remember word-begin-0")
    assert begun.returncode == 0, begun.stderr
    (up.workspace(KEY) / "HEARTBEAT.md").write_text("Look around.\n")
    made = await asyncio.to_thread(up.run, "heartbeat", "set", KEY, "--every", "1s", "--target", f"file:{BEATS}")
    assert made.returncode == 0, made.stderr
    await asyncio.to_thread(wait_until, lambda: _posted_beats(up), PATIENCE_S)  # it runs while nobody speaks


def _posted_beats(up: Up) -> list[dict[str, str]]:
    path = up.data_dir / "channels" / "file" / f"{BEATS}.jsonl"
    whole = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in whole]


def _settled(up: Up) -> tuple[dict[str, Any], list[dict[str, str]], list[dict[str, Any]]] | None:
    """Status, posts of heartbeats, and transcript, once nothing runs and no answer waits to be posted. A beat may
    have been on its way when they were paused: posts are read first, so that none is newer than the transcript."""
    shown = up.run("status", KEY, "--json")
    status: dict[str, Any] = json.loads(shown.stdout) if shown.returncode == 0 else {"state": "", "deliveries": 1}
    beats, lines = _posted_beats(up), up.lines(KEY)
    quiet = (status["state"], status["deliveries"]) == ("idle", 0)
    return (status, beats, lines) if quiet and set(_answered_beats(lines)) <= {one["reply"] for one in beats} else None


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


def _ends_of_beats(lines: list[dict[str, Any]]) -> dict[str, str]:
    """How each heartbeat's turn ended."""
    beats = {line["turn"] for line in lines if line["role"] == "user" and line.get("kind") == "heartbeat"}
    return {line["turn"]: line["outcome"] for line in lines if line.get("event") == "ended" and line["turn"] in beats}


def _answered_beats(lines: list[dict[str, Any]]) -> list[str]:
    return [turn for turn, outcome in _ends_of_beats(lines).items() if outcome == "answered"]


def _heartbeats_gave_way(lines: list[dict[str, Any]], status: dict[str, Any]) -> None:
    ends = Counter(_ends_of_beats(lines).values())
    assert ends["answered"] >= 1, "none ran"
    busy = status["beats_skipped"] if status["beat_skip"] == "busy" else 0
    assert busy + ends["interrupted"] >= 1, f"none made way for a person: {status}"


def _each_beat_is_answered_once_in_its_place(lines: list[dict[str, Any]], posted: list[dict[str, str]]) -> None:
    assert [one["reply"] for one in posted] == _answered_beats(lines), "once, in order, and nobody else's"
    assert all("This is a heartbeat" in one["text"] for one in posted)


def _tell(
    talk: Talk, killed: int, lines: list[dict[str, Any]], beats: list[dict[str, str]], status: dict[str, Any]
) -> None:
    said = ", ".join(f"{who} {len(words)}" for who, words in talk.said.items())
    ends = ", ".join(f"{count} {outcome}" for outcome, count in Counter(_ends_of_beats(lines).values()).items())
    turns = len({line["turn"] for line in lines})
    print(f"\n{SECONDS:.0f} s: {killed} workers killed; messages: {said}; {turns} turns; heartbeats: {ends}, ", end="")
    print(f"{len(beats)} posted, {status['beats_skipped']} skipped (the last: {status['beat_skip']})")


@pytest.mark.timeout(DOWN_S + 2 * PATIENCE_S)
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
            down = time.monotonic()
            asked = await asyncio.to_thread(up.run, "send", KEY, "remember word-cli-1", "--no-wait")
            assert asked.returncode == 0, asked.stderr
            await asyncio.sleep(DOWN_S)
            status = json.loads((await asyncio.to_thread(up.run, "status", KEY, "--json")).stdout)
            assert (status["state"], status["deliveries"]) == ("idle", 1), "the reply waits, and nothing else does"
            assert not any("word-slow-1" in text for text in slack.texts("C1", thread)), "nobody is there to post it"
            back, second = time.monotonic(), up.start("slack")
            try:
                await slack.until(lambda: "word-slow-1" in "".join(slack.texts("C1", thread)), PATIENCE_S)
                after_s = time.monotonic() - back
                print(
                    f"\nSlack's process down for {back - down:.1f} s; the reply came {after_s:.1f} s after it was begun"
                )
                await asyncio.to_thread(wait_until, lambda: '"deliveries": 0' in up.run("status", KEY, "--json").stdout)
            finally:
                second.terminate()
                second.wait(15)
    assert len(slack.texts("C1", thread)) == 1
    assert "word-slow-1" in slack.texts("C1", thread)[0]


def _is_running(up: Up) -> bool:
    return any(line.get("event") == "started" for line in up.lines(KEY)) if up.data_dir.exists() else False
