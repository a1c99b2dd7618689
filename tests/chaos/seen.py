"""What the evidence folder shows, read without a line of the engine's code: for `checker.py`.

Must not judge.
"""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.chaos.evidence import read_lines

NAME = re.compile(r"\bm-\d{4}-\w{4}\b")
FATE = re.compile(r"\b(said|done|interrupted|unrun|broke) (m-\d{4}-\w{4})\b")
#: a fault that says nothing of what stands still: how a life is, or what is done to a file
NOT_HELD_UP = ("slow_fsync", "clock_skew", "torn_line")
MODEL_PATIENCE_S = 3.0  #: a request that failed is not asked again at once


@dataclass
class Message:
    id: str
    session: str
    sender: str
    order: int
    mode: str
    effect: str
    place: str
    tried: float = 0.0
    accepted: float | None = None
    errors: int = 0
    replies: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Deed:
    """One call, and how it ended."""

    call: str
    outcome: str = ""
    content: str = ""

    @property
    def finished(self) -> bool:
        return "(exit code" not in self.content

    @property
    def surely_not(self) -> bool:
        return self.content.startswith("Not run")


@dataclass
class Talk:
    """One transcript."""

    session: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    said: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    places: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    results: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    deeds: dict[str, list[Deed]] = field(default_factory=lambda: defaultdict(list))
    named: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    fates: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)


@dataclass
class Seen:
    folder: Path
    run: dict[str, Any]
    sessions: list[str]
    messages: dict[str, Message]
    talks: dict[str, Talk]
    effects: dict[str, Counter[str]]
    delivered: dict[str, list[dict[str, Any]]]
    statuses: dict[str, dict[str, Any]]
    faults: list[dict[str, Any]]
    told: list[dict[str, Any]]
    canaries: list[bytes]
    interrupts: Counter[str]
    progress: dict[str, list[float]]
    slack: dict[str, list[dict[str, Any]]]  #: what the app said in each session's thread, in order

    def waits(self, session: str) -> list[tuple[float, float]]:
        """Times between two signs of life of a session while a message of it waited for its answer."""
        own = [one for one in self.messages.values() if one.session == session and one.accepted is not None]
        busy = sorted((one.tried, one.replies[0]["t"] if one.replies else self.run["ended"]) for one in own)
        signs = sorted({*self.progress[session], *(time for span in busy for time in span)})
        found: list[tuple[float, float]] = []
        for began, ended in pairwise(signs):
            if any(start <= began and ended <= end for start, end in busy):
                found.append((began, ended))
        return found


def load(folder: Path) -> Seen:
    run = json.loads((folder / "run.json").read_text())
    plan = json.loads((folder / "plan.json").read_text())
    last = folder / "last.json"
    said = plan["said"] + (json.loads(last.read_text()) if last.exists() else [])
    names = ("id", "session", "sender", "order", "mode", "effect", "place")
    messages = {one["id"]: Message(**{name: one[name] for name in names}) for one in said}
    _fold(messages, read_lines(folder / "messages.jsonl"))
    sessions = list(dict.fromkeys(one["session"] for one in said))
    told = read_lines(folder / "model.jsonl")
    volume = folder / "volume"
    talks = {name: read_talk(name, path) for name in sessions for path in volume.glob(f"sessions/*/{name}-*")}
    progress: dict[str, list[float]] = defaultdict(list)
    grown: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for entry in read_lines(folder / "progress.jsonl"):
        if "session" in entry:
            progress[entry["session"]].append(entry["t"])
        else:
            grown[entry["place"]].append((entry["t"], entry["bytes"]))
    slack: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for post in read_lines(folder / "slack.jsonl"):
        slack[post["session"]].append(post)
    mac = volume / "mac.key"
    return Seen(
        folder=folder,
        run=run,
        sessions=sessions,
        messages=messages,
        talks=talks,
        effects=defaultdict(Counter, {name: _effects(folder, number) for number, name in enumerate(sessions)}),
        delivered=defaultdict(list, {p.stem: _posts(p, grown[p.stem]) for p in volume.glob("channels/file/*.jsonl")}),
        statuses=json.loads((folder / "status.json").read_text()),
        faults=_faults(folder, told, messages),
        told=told,
        canaries=[one.encode() for one in run["canaries"]] + ([mac.read_bytes().strip()] if mac.exists() else []),
        interrupts=Counter(one.session for one in messages.values() if one.mode == "interrupt"),
        progress=progress,
        slack=slack,
    )


def _fold(messages: dict[str, Message], events: list[dict[str, Any]]) -> None:
    for event in events:
        message = messages[event["id"]]
        what = event["what"]
        if what == "tried":
            message.tried = message.tried or event["t"]
        elif what == "accepted":
            message.accepted = event["t"] if message.accepted is None else message.accepted
        elif what == "reply":
            message.replies.append(event)
        else:
            message.errors += 1


def read_talk(session: str, folder: Path) -> Talk:
    talk = Talk(session)
    data = (folder / "history.jsonl").read_bytes()
    for raw in data.split(b"\n")[:-1]:  # what follows the last newline was torn, and is no line
        try:
            line = json.loads(raw)
        except ValueError:
            talk.bad.append(f"no JSON: {raw[:80]!r}")
            continue
        talk.lines.append(line)
        _take(talk, line)
    return talk


def _take(talk: Talk, line: dict[str, Any]) -> None:
    turn, role = line.get("turn", ""), line.get("role")
    talk.numbers.setdefault(turn, line.get("n", 0))
    if role == "user":
        for name in NAME.findall(line["content"])[:1]:
            talk.said[name].append(turn)
            talk.places.setdefault(name, line["seq"])
    elif role == "assistant":
        for call in line.get("tool_calls") or []:
            talk.calls.append(call["id"])
            for name in NAME.findall(call["args"]):
                talk.deeds[name].append(Deed(call["id"]))
        for fate, name in FATE.findall(line.get("content") or ""):
            talk.named[name].append(turn)
            talk.fates[name] = fate
    elif role == "tool":
        talk.results[line["call"]].append(line)
        for deeds in talk.deeds.values():
            for deed in deeds:
                if deed.call == line["call"]:
                    deed.outcome, deed.content = line["outcome"], line["content"]
    elif line.get("event") == "ended":
        talk.ended.append(turn)


def _effects(folder: Path, number: int) -> Counter[str]:
    path = folder / "effects" / f"{number:04}.log"
    return Counter(path.read_text().split()) if path.exists() else Counter()


def _posts(path: Path, grown: list[tuple[float, int]]) -> list[dict[str, Any]]:
    """What stands there, and when it was first seen to stand there."""
    found, end = [], 0
    for raw in path.read_bytes().split(b"\n")[:-1]:
        end += len(raw) + 1
        found.append({**json.loads(raw), "t": next((when for when, size in grown if size >= end), 0.0)})
    return found


def _faults(folder: Path, told: list[dict[str, Any]], messages: dict[str, Message]) -> list[dict[str, Any]]:
    """Those that hold something up: of everything, or of the one session whose request failed."""
    found = [one for one in read_lines(folder / "faults.jsonl") if one["kind"] not in NOT_HELD_UP]
    for request in told:
        if request["fault"] and request["first"] in messages:
            session, end = messages[request["first"]].session, request["until"] + MODEL_PATIENCE_S
            found.append({"kind": "model", "start": request["t"], "end": end, "session": session})
    return found
