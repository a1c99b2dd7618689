"""What the evidence folder shows, read without a line of the engine's code: for `checker.py`.

Must not judge.
"""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.evidence import TORN, read_lines

NAME = re.compile(r"\bm-\d{4}-\w{4}\b")
FATE = re.compile(r"\b(said|done|interrupted|unrun|broke) (m-\d{4}-\w{4})\b")
NOTICED_S = 5.0  #: a torn line is seen to stand in its file by then, also on a busy machine


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
    tried_at: int = -1  #: which line of the evidence says so: two times can be the same
    accepted_at: int = -1
    errors: int = 0
    replies: list[dict[str, Any]] = field(default_factory=list)

    def owed_before(self, other: "Message") -> bool:
        """Whether it was taken before its sender said the other: what is said at once may come in any order."""
        return 0 <= self.accepted_at < other.tried_at


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
    progress: dict[str, list[float]]  #: when each session's transcript was seen to grow, in order
    slack: dict[str, list[dict[str, Any]]]  #: what the app said in each session's thread, in order


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
    faults, talked = read_lines(folder / "faults.jsonl"), defaultdict[str, list[tuple[float, int]]](list)
    grown: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for entry in read_lines(folder / "progress.jsonl"):
        if "session" in entry:
            talked[entry["session"]].append((entry["t"], entry["bytes"]))
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
        faults=[one for one in faults if one.get("done", True)],
        told=told,
        canaries=[one.encode() for one in run["canaries"]] + ([mac.read_bytes().strip()] if mac.exists() else []),
        interrupts=Counter(one.session for one in messages.values() if one.mode == "interrupt"),
        progress=defaultdict(list, {name: _moves(name, sizes, faults) for name, sizes in talked.items()}),
        slack=slack,
    )


def _fold(messages: dict[str, Message], events: list[dict[str, Any]]) -> None:
    for number, event in enumerate(events):
        message = messages[event["id"]]
        what = event["what"]
        if what == "tried":
            if message.tried_at < 0:
                message.tried, message.tried_at = event["t"], number
        elif what == "accepted":
            if message.accepted is None:
                message.accepted, message.accepted_at = event["t"], number
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


def _moves(session: str, sizes: list[tuple[float, int]], faults: list[dict[str, Any]]) -> list[float]:
    """When the transcript grew by what the service wrote. Half a line that the fault driver put there is none of
    it, nor is its being cut off again."""
    torn = [one["end"] for one in faults if one["kind"] == "torn_line" and one["done"] and one["session"] == session]
    found: list[float] = []
    whole = 0
    for when, size in sizes:
        tear = next((end for end in torn if -0.1 < when - end < NOTICED_S), None) if size - whole == len(TORN) else None
        if tear is not None:
            torn.remove(tear)
        elif size != whole:
            found.append(when)
            whole = size
    return found
