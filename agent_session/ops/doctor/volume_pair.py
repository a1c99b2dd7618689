"""What a volume must promise to two writers, tried by two: lock, death under the lock, appends, exclusive creation,
replaced files. The same for two processes of a host and for two hosts.
"""

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from agent_session.ops.doctor.findings import Finding, failed, ok, warning, words_of
from agent_session.ops.doctor.volume_acts import KEY, Acts
from agent_session.ops.doctor.volume_partner import Partner
from agent_session.transcript.lines import decode
from agent_session.transcript.log import FILE
from agent_session.transcript.volume import Volume

LINES, APPEND_S = 200, 10.0  #: of each writer, and how long it may write
KILLED_AFTER = 20  #: lines that the killed writer was told of
RACES, REPLACED = 100, 200
REPLACE_S, SEEN_S = 5.0, 30.0  #: how long a file is replaced, and looked at
FREED_S = 5.0  #: how soon a dead process's lock is ours
SLOW_APPEND_MS = 250.0

NO_LOCKS = "mount it so that flock works between hosts (NFSv4.1, no nolock, no local_lock): docs/operations/volumes.md"
NOT_OURS = "use another file system for the data directory: docs/operations/volumes.md"


@dataclass(frozen=True)
class Pair:
    """Two sides of one folder; `group` begins the checks' names, `who` is the other side in words."""

    folder: Path
    mine: Acts
    other: Partner
    group: str
    who: str


def pair_checks(pair: Pair) -> Generator[Finding]:
    """One finding a check, as they come; a check that breaks off is a failed one."""
    checks: tuple[tuple[str, Callable[[Pair], Finding]], ...] = (
        ("lock", _lock), ("lock_of_the_dead", _lock_of_the_dead), ("two_writers", _two_writers),
        ("killed_writer", _killed_writer), ("exclusive_create", _exclusive_create), ("replace", _replace),
    )  # fmt: skip
    for name, check in checks:
        try:
            yield check(pair)
        except OSError as error:
            todo = NO_LOCKS if name.startswith("lock") else NOT_OURS
            yield failed(f"{pair.group}.{name}", f"broke off: {words_of(error)}", todo)


def _lock(pair: Pair) -> Finding:
    check = f"{pair.group}.lock"
    if not pair.other.call("hold", name="lock")["got"]:
        return failed(check, f"{pair.who} could not take a lock that nobody has", NO_LOCKS)
    both = pair.mine.hold("lock")["got"]
    pair.other.call("release", name="lock")
    if both:
        pair.mine.release("lock")
        return failed(check, f"this process and {pair.who} held the same lock at once", NO_LOCKS)
    mine = pair.mine.hold("lock", within_s=FREED_S)
    if not mine["got"]:
        return failed(check, f"a lock that {pair.who} released was not free within {FREED_S:g} s", NO_LOCKS)
    theirs = pair.other.call("hold", name="lock")["got"]
    pair.mine.release("lock")
    if theirs:
        pair.other.call("release", name="lock")
        return failed(check, f"{pair.who} took a lock that this process held", NO_LOCKS)
    return ok(check, f"this process and {pair.who} keep each other out", handed_over_ms=mine["ms"])


def _lock_of_the_dead(pair: Pair) -> Finding:
    check = f"{pair.group}.lock_of_the_dead"
    if not pair.other.call("die_holding", name="lock-of-the-dead")["got"]:
        return failed(check, "a lock that nobody has could not be taken", NO_LOCKS)
    mine = pair.mine.hold("lock-of-the-dead", within_s=FREED_S)
    if not mine["got"]:
        return failed(check, f"the lock of a killed process was still held {FREED_S:g} s later", NO_LOCKS)
    pair.mine.release("lock-of-the-dead")
    return ok(check, f"a killed process's lock was free after {mine['ms']:g} ms", freed_ms=mine["ms"])


def _two_writers(pair: Pair) -> Finding:
    check = f"{pair.group}.two_writers"
    pair.other.ask("append", writer="b", lines=LINES, within_s=APPEND_S)
    mine = pair.mine.append("a", LINES, APPEND_S)
    theirs = pair.other.answer(APPEND_S * 3)
    problem = problem_of(pair.folder, {"a": mine["acked"], "b": theirs["acked"]})
    if problem:
        return failed(check, f"two writers of one transcript: {problem}", NO_LOCKS)
    each = max(mine["ms_each"], theirs["ms_each"])
    words = f"{mine['acked']} and {theirs['acked']} lines at once, none lost or torn, {each:g} ms a line"
    figures = {"lines": mine["acked"] + theirs["acked"], "ms_each": each, "slowest_ms": mine["slowest_ms"]}
    if each > SLOW_APPEND_MS:
        return warning(check, words, "a turn appends three times and waits for each: use a faster volume", **figures)
    return ok(check, words, **figures)


def _killed_writer(pair: Pair) -> Finding:
    check = f"{pair.group}.killed_writer"
    killed = pair.other.call("die_appending", writer="c", after=KILLED_AFTER)
    after = pair.mine.append("d", 5, APPEND_S)
    problem = problem_of(pair.folder, {"c": killed["acked"], "d": after["acked"]})
    if problem or after["acked"] < 5:
        return failed(check, f"after a writer was killed: {problem or 'nothing more could be written'}", NOT_OURS)
    return ok(check, f"a writer killed in the middle lost none of its {killed['acked']} lines", lines=killed["acked"])


def problem_of(folder: Path, acked: dict[str, int]) -> str:
    """What is wrong with the transcript that both wrote; empty when nothing is. `acked`: how many lines each writer
    was told to be on disk."""
    with open(Volume(folder).path_of(KEY) / FILE, "rb") as file:
        raw = file.read()
    if raw and not raw.endswith(b"\n"):
        return "the last line is torn"
    last: Counter[str] = Counter()
    for seq, one in enumerate(raw.splitlines(), 1):
        line = decode(one)
        if line is None:
            return f"line {seq} is torn"
        if line["seq"] != seq:
            return f"line {seq} says that it is line {line['seq']}"
        writer = str(line["turn"]).removeprefix("t-")
        last[writer] += 1
        if line["to"] != last[writer]:
            return f"line {last[writer]} of writer {writer} is missing, or stands elsewhere"
    lost = {writer: said - last[writer] for writer, said in acked.items() if last[writer] < said}
    return f"{sum(lost.values())} lines that were on disk are lost" if lost else ""


def _exclusive_create(pair: Pair) -> Finding:
    check = f"{pair.group}.exclusive_create"
    pair.other.ask("race", name="race", count=RACES, backwards=True)
    mine = set(pair.mine.race("race", RACES)["won"])
    theirs = set(pair.other.answer()["won"])
    if mine & theirs or mine | theirs != set(range(RACES)):
        words = f"of {RACES} files that both created, {len(mine & theirs)} were made by both"
        return failed(check, words, NOT_OURS)
    return ok(check, f"of {RACES} files that both created, each has one maker", won_here=len(mine))


def _replace(pair: Pair) -> Finding:
    check = f"{pair.group}.replace"
    (pair.folder / "replaced").write_bytes(b"a" * 4096)
    pair.other.ask("replace", name="replaced", count=REPLACED, within_s=REPLACE_S)
    seen = pair.mine.watch_replaced("replaced", SEEN_S)
    seen["replaced"] = pair.other.answer()["replaced"]
    if seen["missing"] or seen["torn"]:
        lost = f"missing {seen['missing']} and torn {seen['torn']} times"
        words = f"a file that was replaced {seen['replaced']} times was {lost}"
        return failed(check, words, NOT_OURS, **seen)
    if not seen["saw_the_last"]:
        return failed(check, f"the last replacement of a file was not seen within {SEEN_S:g} s", NOT_OURS, **seen)
    stale = f"; {seen['stale']} reads began in an old one (ESTALE), which is read again" if seen["stale"] else ""
    return ok(check, f"a file replaced {seen['replaced']} times was always there and whole{stale}", **seen)
