"""The volume check: real file systems pass, and one that breaks a promise is found by the check of that promise."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from agent_session.ops.doctor.volume import volume_checks
from agent_session.ops.doctor.volume_mount import mount_checks, mount_of
from tests.doctor.support import ALONE, alone, mounted, results
from tests.e2e.support import wait_until

PROMISES = {
    "volume.mount", "volume.fsync", "volume.modes", "volume.links", "volume.unlinked", "volume.clock", "volume.lock",
    "volume.lock_of_the_dead", "volume.two_writers", "volume.killed_writer", "volume.exclusive_create",
    "volume.replace",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_local_file_system_keeps_every_promise_and_nothing_is_left_behind(tmp_path: Path, kind: str) -> None:
    image = tmp_path / "image"
    if kind == "ext4":
        image.touch()
        os.truncate(image, 32 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    how = ("-t", "tmpfs", "-o", "size=32m,mode=700", "tmpfs") if kind == "tmpfs" else ("-o", "loop", str(image))
    with mounted(tmp_path / "data", *how) as folder:
        before = set(os.listdir(folder))
        found = results(volume_checks(folder))
        assert set(os.listdir(folder)) == before
    assert set(found) == PROMISES
    assert {check for check, result in found.items() if result != "ok"} <= {"volume.mount", "volume.fsync"}
    assert found["volume.mount"] == ("warning" if kind == "tmpfs" else "ok"), "memory does not survive a restart"
    assert "failed" not in found.values()


@pytest.mark.parametrize(
    ("broken", "checks", "result"),
    [
        ("no_lock", "volume.lock volume.two_writers", "failed"),
        ("no_lock_service", "volume.lock", "failed"),
        ("not_exclusive", "volume.exclusive_create", "failed"),
        ("half_written", "volume.two_writers", "failed"),
        ("replaced_in_two_steps", "volume.replace", "failed"),
        ("failing_sync", "volume.fsync", "failed"),
        ("no_links", "volume.links", "warning"),
        ("modes_ignored", "volume.modes", "failed"),
    ],
)
def test_a_volume_that_breaks_a_promise_is_found(memory: Path, broken: str, checks: str, result: str) -> None:
    said = alone(memory, broken=broken)
    assert {said.result(check) for check in checks.split()} == {result}
    assert said.code == (1 if result == "failed" else 0)
    assert all(one["todo"] for one in said.findings if one["result"] in ("failed", "warning"))
    assert os.listdir(memory) == []


def test_what_a_killed_check_left_is_removed_by_the_next(memory: Path) -> None:
    process = subprocess.Popen([*ALONE, str(memory)], stdout=subprocess.DEVNULL)
    wait_until(lambda: [one for one in memory.glob(".doctor-*/alive") if "new" not in str(one)])
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = os.listdir(memory)
    list(volume_checks(memory))
    assert os.listdir(memory) == [], left


def test_a_check_that_runs_is_left_alone_by_another(memory: Path) -> None:
    first = subprocess.Popen([*ALONE, str(memory)], stdout=subprocess.PIPE, text=True)
    wait_until(lambda: list(memory.glob(".doctor-*/alive")))
    second = alone(memory)
    first.communicate(timeout=60)
    assert (first.returncode, second.code) == (0, 0)


def test_a_volume_that_is_read_only_full_or_absent_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "ro", "-t", "tmpfs", "-o", "ro", "tmpfs") as folder:
        said = alone(folder)
        assert set(said.failed()) == {"volume.mount", "volume.writable"}
        assert "read-write" in said.words("volume.writable")
    with mounted(tmp_path / "full", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as folder:
        (folder / "filler").write_bytes(b"x" * 65536)
        assert alone(folder).failed()
    said = alone(tmp_path / "absent")
    assert said.failed() == ["volume.writable"]
    assert "no such directory" in said.words("volume.writable")


NFS3 = "36 35 0:50 / /data rw,relatime - nfs server:/export rw,vers=3,hard,proto=tcp"
NFS = "36 35 0:50 / /data rw,relatime shared:1 - nfs4 server:/export rw,vers=4.1,hard,proto=tcp"


@pytest.mark.parametrize(
    ("line", "result", "words"),
    [
        (NFS, "ok", "vers=4.1"),
        (NFS.replace("hard", "soft"), "warning", "soft"),
        (NFS + ",nocto", "failed", "nocto"),
        (NFS + ",acregmax=600", "warning", "600"),
        (NFS3 + ",local_lock=none", "warning", "protocol of their own"),
        (
            NFS.replace("nfs4", "nfs").replace("4.1", "3") + ",nolock,local_lock=all",
            "failed",
            "locks stay on this host",
        ),
        (NFS.replace("4.1", "4.2") + ",local_lock=flock", "failed", "local_lock=flock"),
        ("1 1 0:5 / /data rw - cifs //server/share rw,vers=3.1.1,cache=strict", "warning", "Windows"),
        ("1 1 0:5 / /data rw - cifs //server/share rw,vers=3.1.1,nobrl", "failed", "nobrl"),
        ("1 1 0:5 / /data rw - fuse.s3fs s3fs rw", "failed", "object store"),
        ("1 1 0:5 / /data rw - fuse.mountpoint-s3 bucket rw", "failed", "object store"),
        ("1 1 0:5 / /data rw - overlay overlay rw", "warning", "gone with the container"),
        ("1 1 0:5 / /data rw - lustre fs rw,localflock", "failed", "without flock"),
        ("1 1 0:5 / /data rw - ceph mon:/ rw", "ok", "shared"),
        ("1 1 0:5 / /data ro,relatime - ext4 /dev/sda1 ro", "failed", "read-only"),
    ],
)
def test_mount_options_that_break_a_promise_are_named(line: str, result: str, words: str) -> None:
    table = f"22 1 8:1 / / rw,relatime - ext4 /dev/root rw\n{line}\n23 1 0:9 / /data-other rw - tmpfs tmpfs rw\n"
    found = list(mount_checks(mount_of(Path("/data/agent"), table)))
    worst = next(one for one in found if one.result == result)
    assert words in worst.words
    assert result == "ok" or worst.todo


def test_the_mount_point_nearest_above_counts_also_with_a_space_in_it() -> None:
    table = (
        "1 0 8:1 / / rw - ext4 /dev/root rw\n"
        "2 1 0:1 / /data rw - tmpfs tmpfs rw\n"
        "3 1 0:2 / /data/my\\040sessions rw - xfs /dev/sdb rw\n"
    )
    assert mount_of(Path("/data/my sessions/x"), table).kind == "xfs"
    assert mount_of(Path("/data/mine"), table).kind == "tmpfs"
    assert mount_of(Path("/database"), table).kind == "ext4"
