"""The volume check between two doctors, which find each other through files on the volume."""

import os
import signal
import subprocess
import time
from pathlib import Path

from agent_session.ops.doctor import volume_peer
from tests.doctor.support import ALONE, WITHIN_S, Said, alone, said_by
from tests.e2e.support import wait_until

SLOT = volume_peer.SLOT


def started(folder: Path, wait_s: float) -> "subprocess.Popen[str]":
    command = [*ALONE, str(folder), "--with-peer", str(wait_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]") -> Said:
    out, errors = process.communicate(timeout=WITHIN_S)
    return said_by(subprocess.CompletedProcess([], process.returncode, out, errors))


def test_two_doctors_meet_and_say_the_same_and_leave_nothing(memory: Path) -> None:
    both = [ended(one) for one in [started(memory, 30), started(memory, 30)]]
    assert both[0].findings == both[1].findings
    assert [one.code for one in both] == [0, 0]
    checks = {one["check"] for one in both[0].findings}
    assert checks == {
        "peer.found", "peer.clock", "peer.append_seen", "peer.lock", "peer.lock_of_the_dead", "peer.two_writers",
        "peer.killed_writer", "peer.exclusive_create", "peer.replace",
    }  # fmt: skip
    assert "same host" in both[0].words("peer.found"), "two processes of one host prove nothing between hosts"
    assert os.listdir(memory) == []


def test_a_doctor_to_whom_nobody_comes_says_so_and_leaves_nothing(memory: Path) -> None:
    said = alone(memory, "--with-peer", "1")
    assert said.failed() == ["peer.found"]
    assert "another host" in said.words("peer.found")
    assert os.listdir(memory) == []


def test_what_a_dead_doctor_left_is_taken_over(memory: Path) -> None:
    dead = started(memory, 60)
    wait_until(lambda: (memory / SLOT).exists())
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    long_ago = time.time() - 100
    os.utime(memory / SLOT / volume_peer.LEADER, (long_ago, long_ago))
    both = [ended(one) for one in [started(memory, 30), started(memory, 30)]]
    assert [one.code for one in both] == [0, 0]
    assert os.listdir(memory) == []


def test_a_third_doctor_is_told_to_wait(memory: Path) -> None:
    first = started(memory, 60)
    try:
        wait_until(lambda: (memory / SLOT).exists())
        (memory / SLOT / volume_peer.TAKEN).touch()
        assert "two doctors" in alone(memory, "--with-peer", "1").words("peer.found")
    finally:
        first.kill()
        first.wait()


def test_what_a_peer_asks_cannot_lead_out_of_its_folder(memory: Path) -> None:
    """Whoever can write the volume can write such letters."""
    outside, slot = memory / "outside", memory / "volume"
    slot.mkdir()
    leader = started(slot, 60)
    try:
        wait_until(lambda: (slot / SLOT).exists())
        leader.send_signal(signal.SIGSTOP)
        follower = started(slot, 30)
        wait_until(lambda: (slot / SLOT / volume_peer.TAKEN).exists())
        letters = slot / SLOT / volume_peer.TO_FOLLOWER
        with open(letters, "a") as file:
            file.write('{"number": 1, "act": "write", "name": "../../../outside", "size": 1}\n')
            file.write('{"number": 2, "act": "__init__", "folder": "/"}\n')
        answers = slot / SLOT / volume_peer.TO_LEADER
        wait_until(lambda: '"number":2' in answers.read_text())
        assert "is no name of a file" in answers.read_text()
        assert "is no act" in answers.read_text()
        assert not outside.exists()
        follower.kill()
        follower.wait()
    finally:
        leader.kill()
        leader.wait()
