"""Plants a violation into a run's evidence, to show that the checker can fail. Touches no engine and no run."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.chaos.evidence import TORN

Lines = list[dict[str, Any]]


def plant(folder: Path, what: str) -> None:
    """Tamper with the evidence in the folder. Errors: KeyError, ValueError when there is nothing to plant it in."""
    PLANTS[what](folder)


def _drop(folder: Path) -> None:
    """A message that was taken is nowhere: not in its transcript, and nobody was answered."""

    def without(lines: Lines) -> Lines | None:
        said = next((line for line in lines if line["role"] == "user"), None)
        if said is None:
            return None
        victim = said["content"].split()[0]
        _change_events(folder, lambda one: None if one["id"] == victim and one["what"] == "reply" else one)
        return _renumbered([line for line in lines if line is not said])

    _change_one_talk(folder, without)


def _unanswered(folder: Path) -> None:
    """A message was taken in, and its sender never heard."""
    victim = _a_reply(folder)["id"]
    _change_events(folder, lambda one: None if one["id"] == victim and one["what"] == "reply" else one)


def _untaken(folder: Path) -> None:
    """A sender tried until the end, and was never acknowledged."""
    victim = _a_reply(folder)["id"]
    _change_events(folder, lambda one: None if one["id"] == victim and one["what"] in ("accepted", "reply") else one)


def _answers(folder: Path) -> None:
    """A message was answered twice, each time with another reply."""
    reply = _a_reply(folder)
    events = _read(folder / "messages.jsonl")
    _write(folder / "messages.jsonl", [*events, {**reply, "text": reply["text"] + " or not"}])


def _failed(folder: Path) -> None:
    """A message was answered with an apology."""
    victim = _a_reply(folder)["id"]
    apology = {"outcome": "failed", "text": "Sorry"}
    _change_events(folder, lambda one: {**one, **apology} if one["id"] == victim and one["what"] == "reply" else one)


def _double(folder: Path) -> None:
    """A message is taken in by a second turn."""

    def again(lines: Lines) -> Lines | None:
        turns = list(dict.fromkeys(line["turn"] for line in lines))
        if len(turns) < 2:
            return None
        said = next(line for line in lines if line["role"] == "user" and line["turn"] == turns[0])
        place = next(index for index, line in enumerate(lines) if line["turn"] == turns[1]) + 1
        return _renumbered([*lines[:place], {**said, "turn": turns[1], "n": lines[place]["n"]}, *lines[place:]])

    _change_one_talk(folder, again)


def _swap(folder: Path) -> None:
    """Two messages of one sender, taken in in the wrong order."""
    plan = json.loads((folder / "plan.json").read_text())
    by_sender: dict[tuple[str, str], list[str]] = {}
    for one in sorted(plan["said"], key=lambda one: one["order"]):
        if one["mode"] in ("collect", "followup") and not one["pair"]:  # of a pair no order is owed
            by_sender.setdefault((one["session"], one["sender"]), []).append(one["id"])
    pairs = [pair for found in by_sender.values() for pair in pairwise(found)]

    def swapped(lines: Lines) -> Lines | None:
        for pair in pairs:
            found = [line for line in lines if line["role"] == "user" and line["content"].split()[0] in pair]
            if len(found) == 2:
                one, other = found
                one["content"], other["content"] = other["content"], one["content"]
                return lines
        return None

    _change_one_talk(folder, swapped)


def _resultless(folder: Path) -> None:
    """A call of a turn that has ended has no result."""

    def without(lines: Lines) -> Lines | None:
        victim = next((line for line in lines if line["role"] == "tool"), None)
        return _renumbered([line for line in lines if line is not victim]) if victim else None

    _change_one_talk(folder, without)


def _gap(folder: Path) -> None:
    """A line of a transcript is gone."""

    def without(lines: Lines) -> Lines | None:
        return [line for line in lines if line["seq"] != 2] if len(lines) > 2 else None

    _change_one_talk(folder, without)


def _garbled(folder: Path) -> None:
    """A line in the middle of a transcript is no JSON."""
    path = next(iter(sorted((folder / "volume").glob("sessions/*/*/history.jsonl"))))
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(first[: len(first) // 2] + b"\n" + rest)


def _untold(folder: Path) -> None:
    """A command finished, and the model was told that it was interrupted."""

    def told(lines: Lines) -> Lines | None:
        victim = next((line for line in lines if line["role"] == "assistant" and "done m-" in line["content"]), None)
        if victim is not None:
            victim["content"] = victim["content"].replace("done m-", "interrupted m-", 1)
        return lines if victim is not None else None

    _change_one_talk(folder, told)


def _canary(folder: Path) -> None:
    """The provider's key in a place where an exception's text could have put it."""
    run = json.loads((folder / "run.json").read_text())
    (folder / "histories" / "planted.bin").write_bytes(b"401: bad key " + run["canaries"][0].encode())


def _effect(folder: Path) -> None:
    """A command's effect happened twice."""
    path = next(path for path in sorted((folder / "effects").glob("*.log")) if path.stat().st_size)
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")


def _post(folder: Path) -> None:
    """A reply was delivered twice."""
    path = next((folder / "volume").glob("channels/file/*.jsonl"))
    data = path.read_bytes()
    path.write_bytes(data + data.splitlines(keepends=True)[-1])


def _lost_post(folder: Path) -> None:
    """A reply never came to its place."""
    path = next(path for path in sorted((folder / "volume").glob("channels/file/*.jsonl")) if path.stat().st_size)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def _lost_effect(folder: Path) -> None:
    """A command is said to have finished, and its effect never happened."""
    talks = [line for path in (folder / "volume").glob("sessions/*/*/history.jsonl") for line in _whole(path)]
    done = {line["call"] for line in talks if line["role"] == "tool" and line["outcome"] == "ok"}
    asked = [call for line in talks if line["role"] == "assistant" for call in line.get("tool_calls") or []]
    words = " ".join(call["args"] for call in asked if call["id"] in done)
    for path in sorted((folder / "effects").glob("*.log")):
        names = path.read_text().split()
        victim = next((name for name in names if name in words), None)
        if victim is not None:
            return _write_words(path, [name for name in names if name != victim])
    raise ValueError("no command finished: let the run be longer")


def _slack(folder: Path) -> None:
    """A reply stands in its thread twice."""
    posts = _read(folder / "slack.jsonl")
    _write(folder / "slack.jsonl", [*posts, posts[-1]])


def _wedge(folder: Path) -> None:
    """A session still runs when everything is over."""
    statuses = json.loads((folder / "status.json").read_text())
    next(iter(statuses.values()))["state"] = "running"
    (folder / "status.json").write_text(json.dumps(statuses))


def _stall(folder: Path) -> None:
    """An answer that came a minute late, and nothing moved meanwhile."""
    events = _read(folder / "messages.jsonl")
    last = max(one["t"] for one in events)
    victim = next(one for one in reversed(events) if one["what"] == "reply")
    victim["t"] = last + 60
    _write(folder / "messages.jsonl", events)


def _nagged(folder: Path) -> None:
    """The same, hidden: the sender says it again, another's channel dies, one of the workers sleeps, a line is torn."""
    events, faults, grown = (_read(folder / f"{name}.jsonl") for name in ("messages", "faults", "progress"))
    session_of = {one["id"]: one["session"] for one in json.loads((folder / "last.json").read_text())}
    began = max(one["t"] for one in (*events, *grown))
    victim = next(one for one in events if one["what"] == "reply" and one["id"] in session_of)
    session = session_of[victim["id"]]
    size = next(one["bytes"] for one in reversed(grown) if one.get("session") == session)
    for second in range(5, 60, 5):
        now = began + second
        events.append({"t": now, "what": "tried", "id": victim["id"]})
        faults.append({"t": now, "kind": "torn_line", "start": now, "end": now, "session": session, "done": True})
        grown += [{"t": now + 0.1, "session": session, "bytes": size + len(TORN)}]
        grown += [{"t": now + 0.4, "session": session, "bytes": size}]
        for kind in ("kill_gateway", "kill_slack", "model_500", "stop_worker"):
            faults.append({"t": now, "kind": kind, "start": now - 5, "end": now, "worker": 0, "life": 1})
    victim["t"] = began + 60
    for name, lines in (("messages", events), ("faults", faults), ("progress", grown)):
        _write(folder / f"{name}.jsonl", lines)


PLANTS: dict[str, Callable[[Path], None]] = {
    "drop": _drop,
    "unanswered": _unanswered,
    "untaken": _untaken,
    "double": _double,
    "answers": _answers,
    "failed": _failed,
    "swap": _swap,
    "resultless": _resultless,
    "gap": _gap,
    "garbled": _garbled,
    "untold": _untold,
    "canary": _canary,
    "effect": _effect,
    "lost_effect": _lost_effect,
    "post": _post,
    "lost_post": _lost_post,
    "slack": _slack,
    "wedge": _wedge,
    "stall": _stall,
    "nagged": _nagged,
}
#: the kind of violation that each is found as, and what its words hold
FOUND_AS = {"drop": ("lost", "stands in no turn"), "unanswered": ("lost", "has no reply"),
            "untaken": ("untaken", "was never taken"), "double": ("doubled", "stands in the turns"),
            "answers": ("doubled", "got different replies"), "failed": ("failed", "was answered failed"),
            "swap": ("swapped", "were taken in swapped"), "resultless": ("resultless", "has 0 results"),
            "gap": ("transcript", "seq goes from 1 to 3"), "garbled": ("transcript", "no JSON"),
            "untold": ("untold", "told it was interrupted"), "canary": ("canary", "holds a secret"),
            "effect": ("doubled", "happened 2 times"), "lost_effect": ("lost", "its effect happened 0 times"),
            "post": ("doubled", " 2 times"), "lost_post": ("lost", "never came to file:"),
            "slack": ("doubled", "Slack holds part"), "wedge": ("wedged", "running"),
            "stall": ("stall", "nothing moved"), "nagged": ("stall", "nothing moved")}  # fmt: skip


def _read(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text().split("\n") if line.strip()]


def _write(path: Path, lines: Lines) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _renumbered(lines: Lines) -> Lines:
    return [{**line, "seq": number} for number, line in enumerate(lines, 1)]


def _whole(path: Path) -> Lines:
    data = path.read_bytes()
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].decode().splitlines()]


def _write_words(path: Path, words: list[str]) -> None:
    path.write_text("".join(f"{word}\n" for word in words))


def _a_reply(folder: Path) -> dict[str, Any]:
    return next(one for one in _read(folder / "messages.jsonl") if one["what"] == "reply")


def _change_events(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Of `messages.jsonl`; None takes one away."""
    changed = map(change, _read(folder / "messages.jsonl"))
    _write(folder / "messages.jsonl", [one for one in changed if one is not None])


def _change_one_talk(folder: Path, change: Callable[[Lines], Lines | None]) -> None:
    """The first transcript in which there is something to change. Errors: ValueError."""
    for path in sorted((folder / "volume").glob("sessions/*/*/history.jsonl")):
        changed = change(_whole(path))
        if changed is not None:
            _write(path, changed)
            return
    raise ValueError("no transcript holds anything to change: let the run be longer")
