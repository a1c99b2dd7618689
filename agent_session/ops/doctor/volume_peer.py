"""The volume check between two hosts: each runs `doctor --volume DIR --with-peer`, and they find each other through
the volume itself. The first makes a slot and leads; the second does what it is told, and gets the findings, too.
"""

import errno
import os
import shutil
import threading
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from agent_session.ops.doctor.findings import WARNING, Finding, failed, ok, warning, words_of
from agent_session.ops.doctor.volume import FRESH, cannot_be_used, sweep
from agent_session.ops.doctor.volume_acts import Acts
from agent_session.ops.doctor.volume_child import answer_to
from agent_session.ops.doctor.volume_pair import NOT_OURS, Pair, pair_checks
from agent_session.ops.doctor.volume_partner import Letters, PartnerFault
from agent_session.transcript.volume import Volume

SLOT = ".doctor-peer"
LEADER, TAKEN, TO_LEADER, TO_FOLLOWER = "leader", "taken", "to-leader", "to-follower"
BEAT_S, DEAD_S = 1.0, 20.0  #: the leader shows so often that it lives, and is dead when it has not for so long
SILENCE_S = 90.0  #: between two things that the leader asks
SEEN_S = 30.0  #: how long an append of the other host is looked for
LATE_S = 5.0
SKEW_S = 2.0


def peer_checks(root: Path, wait_s: float) -> Generator[Finding]:
    """Whether a volume keeps its promises between this host and another. Waits `wait_s` for the other. Errors: none,
    each is a finding."""
    deadline = time.monotonic() + wait_s
    try:
        while True:
            if _make_slot(root):
                yield from _lead(root / SLOT, deadline)
                return
            if (turn := _take_slot(root / SLOT)) is not None:
                yield from _follow(root / SLOT, turn)
                return
            if time.monotonic() > deadline:
                todo = "wait until they are through, or remove that folder if nothing runs"
                yield failed("peer.found", f"two doctors are at it already in {root / SLOT}", todo)
                return
            time.sleep(BEAT_S)
    except OSError as error:
        yield cannot_be_used(root, error)


def _make_slot(root: Path) -> bool:
    """Become the leader, unless there is one. Made aside and renamed: nobody sees it half made."""
    sweep(root)
    if not root.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such directory", str(root))
    fresh = root / f"{FRESH}{uuid.uuid4().hex}"
    fresh.mkdir(mode=0o700)
    try:
        for name in (LEADER, TO_LEADER, TO_FOLLOWER):
            (fresh / name).touch(mode=0o600)
        Volume(fresh).initialise()
        os.rename(fresh, root / SLOT)
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _take_slot(slot: Path) -> Letters | None:
    """Join the leader, if it lives and has nobody yet. A dead one's slot is removed."""
    try:
        if _silent_s(slot) > DEAD_S:
            old = slot.with_name(f"{FRESH}{uuid.uuid4().hex}")
            os.rename(slot, old)  # of two who try, one has it
            shutil.rmtree(old, ignore_errors=True)
            return None
        os.close(os.open(slot / TAKEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except (FileNotFoundError, FileExistsError):
        return None
    return Letters(slot / TO_LEADER, slot / TO_FOLLOWER)


def _silent_s(slot: Path) -> float:
    """How long the leader has shown nothing, by the volume's own clock. The file is opened, as only then NFS asks."""
    descriptor = os.open(slot / LEADER, os.O_RDONLY | os.O_CLOEXEC)
    try:
        last = os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
    now = slot / f"now-{uuid.uuid4().hex}"
    now.touch()
    try:
        return now.stat().st_mtime - last
    finally:
        now.unlink()


@contextmanager
def _beating(slot: Path) -> Generator[None]:
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(BEAT_S):
            with suppress(OSError):  # a write, not utime: the time is to be the server's
                (slot / LEADER).write_bytes(b".")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(BEAT_S)


def _lead(slot: Path, deadline: float) -> Generator[Finding]:
    letters, mine = Letters(slot / TO_FOLLOWER, slot / TO_LEADER), Acts(slot)
    try:
        with _beating(slot):
            try:
                hello = letters.hear(max(0.0, deadline - time.monotonic()))
            except PartnerFault:
                todo = f"run the same command on another host that mounts it, while this one waits: {slot.parent}"
                yield failed("peer.found", "no other doctor came to this volume", todo)
                return
            found: list[Finding] = []
            who = str(hello["host"])
            for one in (
                _found(hello, mine),
                *_between(slot, mine, letters),
                *pair_checks(_pair(slot, mine, letters, who)),
            ):
                found.append(one)
                yield one
            letters.say({"act": "end", "findings": [asdict(one) for one in found]})
            letters.hear(SILENCE_S)
    except PartnerFault as error:
        yield failed("peer.found", f"{words_of(error)}: it went away", "look at what the other doctor says")
    finally:
        mine.close()
        shutil.rmtree(slot, ignore_errors=True)


def _pair(slot: Path, mine: Acts, letters: Letters, who: str) -> Pair:
    return Pair(slot, mine, letters, "peer", who)


def _found(hello: dict[str, object], mine: Acts) -> Finding:
    if hello["boot"] and hello["boot"] == mine.about()["boot"]:
        todo = "for locks between hosts run the second one on another host"
        return Finding("peer.found", WARNING, "the other doctor runs on this same host", todo)
    return ok("peer.found", f"the other doctor runs on {hello['host']}")


def _between(slot: Path, mine: Acts, letters: Letters) -> Generator[Finding]:
    """Clocks, and how soon each sees what the other has written."""
    sent, theirs, came = time.time(), letters.call("about")["now"], time.time()
    skew, unsure = theirs - (sent + came) / 2, (came - sent) / 2
    words = f"the two hosts' clocks differ by {skew:.2f} s (± {unsure:.2f})"
    if abs(skew) - unsure > SKEW_S:
        yield warning("peer.clock", words, "let both keep time (chrony, NTP)", skew_s=round(skew, 3))
    else:
        yield ok("peer.clock", words, skew_s=round(skew, 3), unsure_s=round(unsure, 3))
    yield _append_seen(slot, letters)


def _append_seen(slot: Path, letters: Letters) -> Finding:
    """By a reader that opens the file anew, as ours do, and by one that keeps it open: that one is told of it to set
    nobody's hopes on it."""
    path, took = slot / "seen", dict[str, float | None]()
    path.touch(mode=0o600)
    kept = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for way, size in (("kept_open_s", 100), ("opened_s", 200)):
            letters.ask("write", name="seen", size=100)
            since = time.monotonic()
            while (at := os.fstat(kept) if way == "kept_open_s" else _opened(path)).st_size < size:
                if time.monotonic() - since > SEEN_S:
                    break
                time.sleep(0.01)
            took[way] = round(time.monotonic() - since, 2) if at.st_size >= size else None
            letters.answer()
    finally:
        os.close(kept)
    late, slow = took["opened_s"], took["kept_open_s"]
    beside = f"{slow:g} s" if slow is not None else f"more than {SEEN_S:g} s"
    if late is None:
        return failed("peer.append_seen", f"what the other host wrote was not seen for {SEEN_S:g} s", NOT_OURS, **took)
    words = f"what the other host writes is seen within {late:g} s by who opens the file, {beside} by who keeps it open"
    if late > LATE_S:
        todo = "mount it with a smaller actimeo, and without nocto: a step waits for it on the next host"
        return warning("peer.append_seen", words, todo, **took)
    return ok("peer.append_seen", words, **took)


def _opened(path: Path) -> os.stat_result:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _follow(slot: Path, letters: Letters) -> Generator[Finding]:
    mine = Acts(slot)
    try:
        letters.say(mine.about())
        while True:
            asked = letters.hear(SILENCE_S)
            if asked.get("act") == "end":
                letters.say({})
                for one in asked["findings"]:
                    yield Finding(**one)
                return
            number = asked.pop("number", 0)
            letters.say({"number": number, **answer_to(mine, asked)})
    except PartnerFault:
        yield failed("peer.found", "the other doctor went away", "look at what it says, and run both again")
    finally:
        mine.close()
