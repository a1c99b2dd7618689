"""What a run came to: a table for people, JSON for machines. Must not decide what is a violation."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.checker import STALL_S, Verdict
from tests.chaos.evidence import read_lines
from tests.chaos.seen import Seen

COUNTED = ("lost", "untaken", "doubled", "swapped", "resultless", "transcript", "untold", "failed", "canary", "wedged",
           "stall")  # fmt: skip
SHOWN = 20


def summary(seen: Seen, verdict: Verdict) -> dict[str, Any]:
    """The whole result as plain values."""
    run, messages = seen.run, list(seen.messages.values())
    kinds = Counter(str(one["kind"]) for one in read_lines(seen.folder / "faults.jsonl") if one.get("done", True))
    kinds |= {f"request_{name}": count for name, count in Counter(one["fault"] for one in seen.told).items() if name}
    deeds = [deed for talk in seen.talks.values() for found in talk.deeds.values() for deed in found]
    replies = Counter(one.replies[0]["outcome"] for one in messages if one.replies)
    found = Counter(one.kind for one in verdict.violations)
    return {
        "seed": run["seed"],
        "seconds": round(run["ended"] - run["began"], 1),
        "sessions": len(seen.sessions),
        "messages": len(messages),
        "accepted": sum(one.accepted is not None for one in messages),
        "sends_that_failed_and_were_repeated": sum(one.errors for one in messages),
        "replies": dict(replies),
        "turns": sum(len(talk.ended) for talk in seen.talks.values()),
        "deliveries": sum(len(posts) for posts in seen.delivered.values()),
        "effects": {"asked": len(deeds), **Counter(deed.outcome or "open" for deed in deeds)},
        "model_requests": len(seen.told),
        "processes_killed": run["kills"],
        "faults": dict(sorted(kinds.items())),
        "longest_stall_s": round(verdict.stall_s, 1),
        "latest_delivery_s": round(verdict.late_s, 1),
        "longest_silence_s": round(verdict.silence_s, 1),
        "long_silences": verdict.silences,
        "violations": {kind: found[kind] for kind in COUNTED},
        "volume_faults": "tmpfs" if run["mounted"] else "left out: they need root and mount",
    }


def table(known: dict[str, Any]) -> str:
    """The same in Markdown, as `docs/reliability.md` has it."""
    rows = [
        ("seed", known["seed"]),
        ("duration", f"{known['seconds']:.0f} s"),
        ("messages, sessions", f"{known['messages']}, {known['sessions']}"),
        ("turns, model requests, deliveries", f"{known['turns']}, {known['model_requests']}, {known['deliveries']}"),
        ("side effects", ", ".join(f"{count} {name}" for name, count in known["effects"].items())),
        ("replies", ", ".join(f"{count} {name}" for name, count in known["replies"].items())),
        ("sends that failed and were repeated", known["sends_that_failed_and_were_repeated"]),
        ("processes killed with SIGKILL", known["processes_killed"]),
        ("faults", ", ".join(f"{name} {count}" for name, count in known["faults"].items())),
        *((f"**{kind}**", f"**{count}**") for kind, count in known["violations"].items()),
        (f"longest stall beyond faults (limit {STALL_S:.0f} s)", f"{known['longest_stall_s']} s"),
        ("latest delivery after its reply, beyond faults (the same limit)", f"{known['latest_delivery_s']} s"),
        ("longest silence, faults included", f"{known['longest_silence_s']} s"),
        (f"silences of more than {STALL_S:.0f} s, faults included", known["long_silences"]),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def words_of(verdict: Verdict) -> str:
    """The violations, the first few in full."""
    lines = [f"{one.kind}: {one.session}: {one.words}" for one in verdict.violations[:SHOWN]]
    left = len(verdict.violations) - SHOWN
    return "\n".join([*lines, *([f"… and {left} more"] if left > 0 else [])])


def write_json(path: Path, known: dict[str, Any], verdict: Verdict) -> None:
    found = [{"kind": one.kind, "session": one.session, "words": one.words} for one in verdict.violations]
    path.write_text(json.dumps({**known, "found": found}, indent=2) + "\n")
