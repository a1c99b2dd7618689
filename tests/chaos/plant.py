"""Plants a violation into a run's evidence, to show that the checker can fail. Touches no engine and no run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Lines = list[dict[str, Any]]


def plant(folder: Path, what: str) -> None:
    """Tamper with the evidence in the folder. Errors: KeyError, ValueError when there is nothing to plant it in."""
    PLANTS[what](folder)


def _drop(folder: Path) -> None:
    """A message that was taken is nowhere: not in its transcript, and nobody was answered."""
    replies = _read(folder / "messages.jsonl")
    victim = next(one["id"] for one in replies if one["what"] == "reply")
    _write(folder / "messages.jsonl", [one for one in replies if one["id"] != victim or one["what"] != "reply"])


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
        if one["mode"] in ("collect", "followup"):
            by_sender.setdefault((one["session"], one["sender"]), []).append(one["id"])
    pairs = [tuple(found[:2]) for found in by_sender.values() if len(found) > 1]

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


def _canary(folder: Path) -> None:
    """The provider's key in a place where an exception's text could have put it."""
    run = json.loads((folder / "run.json").read_text())
    path = next((folder / "histories").glob("*.bin"))
    path.write_bytes(path.read_bytes() + b"401: bad key " + run["canaries"][0].encode())


def _effect(folder: Path) -> None:
    """A command's effect happened twice."""
    path = next(path for path in sorted((folder / "effects").glob("*.log")) if path.stat().st_size)
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")


def _post(folder: Path) -> None:
    """A reply was delivered twice."""
    path = next((folder / "volume").glob("channels/file/*.jsonl"))
    data = path.read_bytes()
    path.write_bytes(data + data.splitlines(keepends=True)[-1])


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


PLANTS: dict[str, Callable[[Path], None]] = {
    "drop": _drop,
    "double": _double,
    "swap": _swap,
    "resultless": _resultless,
    "canary": _canary,
    "effect": _effect,
    "post": _post,
    "slack": _slack,
    "wedge": _wedge,
    "stall": _stall,
}
FOUND_AS = {"drop": "lost", "double": "doubled", "swap": "swapped", "effect": "doubled", "post": "doubled",
            "slack": "doubled", "resultless": "resultless", "canary": "canary", "wedge": "wedged",
            "stall": "stall"}  # fmt: skip


def _read(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text().split("\n") if line.strip()]


def _write(path: Path, lines: Lines) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _renumbered(lines: Lines) -> Lines:
    return [{**line, "seq": number} for number, line in enumerate(lines, 1)]


def _change_one_talk(folder: Path, change: Callable[[Lines], Lines | None]) -> None:
    """The first transcript in which there is something to change. Errors: ValueError."""
    for path in sorted((folder / "volume").glob("sessions/*/*/history.jsonl")):
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1].decode()
        changed = change([json.loads(line) for line in whole.splitlines()])
        if changed is not None:
            _write(path, changed)
            return
    raise ValueError("no transcript holds anything to change: let the run be longer")
