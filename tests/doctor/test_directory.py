"""What doctor says of a data directory, its secrets and its disk, each fault made for real."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_session.ops.doctor import writers
from agent_session.ops.doctor.directory import directory_checks, secret_checks, space_checks
from agent_session.ops.doctor.findings import Finding
from agent_session.settings import load_settings
from agent_session.transcript.volume import MARKER, Volume
from tests.doctor.support import mounted
from tests.e2e.support import wait_until

HOLDER = (
    "import fcntl, os, signal, sys; d = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(d, fcntl.LOCK_EX); "
    "print('held', flush=True); os.kill(os.getpid(), signal.SIGSTOP)"
)


def only(findings: Iterator[Finding]) -> Finding:
    (one,) = list(findings)
    return one


def looked_at(volume: Volume) -> Finding:
    return only(directory_checks(volume.root, shared=True))


def test_a_data_volume_of_this_user_alone_is_fine(volume: Volume) -> None:
    assert looked_at(volume).result == "ok"


def test_a_directory_that_is_absent_is_no_fault_where_up_makes_it(tmp_path: Path) -> None:
    found = only(directory_checks(tmp_path / "none", shared=False))
    assert (found.result, found.todo) == ("warning", "agent-session up makes it")
    found = only(directory_checks(tmp_path / "none", shared=True))
    assert found.result == "failed"
    assert f"agent-session init --data-dir {tmp_path / 'none'}" in found.todo


def test_a_missing_marker_is_an_unmounted_volume(volume: Volume) -> None:
    (volume.root / MARKER).unlink()
    found = looked_at(volume)
    assert (found.result, found.check) == ("failed", "directory")
    assert "unmounted" in found.words
    assert "agent-session init" in found.todo


def test_modes_that_let_others_in_are_named_with_the_command_that_closes_them(volume: Volume) -> None:
    volume.root.chmod(0o755)
    (volume.root / "mac.key").chmod(0o644)
    todo = {one.todo: one.result for one in directory_checks(volume.root, shared=True)}
    assert todo == {f"chmod 700 {volume.root}": "failed", f"chmod 600 {volume.root / 'mac.key'}": "failed"}
    volume.root.chmod(0o700)
    assert looked_at(volume).result == "warning", "nobody comes past a directory that is closed"
    (volume.root / "mac.key").chmod(0o600)
    volume.root.chmod(0o2770)
    assert looked_at(volume).result == "warning", "a group of one's own, as Kubernetes' fsGroup makes it"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_directory_of_another_user_is_named(volume: Volume) -> None:
    os.chown(volume.root, 10001, 10001)
    found = looked_at(volume)
    assert found.result == "warning", "root can write it all the same"
    assert "uid 10001, and this is uid 0" in found.words


def test_a_secret_that_others_can_read_is_named_and_its_content_is_not(tmp_path: Path) -> None:
    key, token = tmp_path / "key", tmp_path / "token"
    key.write_text("canary-key")
    token.write_text("canary-token")
    key.chmod(0o600)
    token.chmod(0o600)
    settings = load_settings({"data_dir": tmp_path, "mac_key_file": key, "gateway": {"token_file": token}})
    assert only(secret_checks(settings)).result == "ok"
    key.chmod(0o640)
    token.chmod(0o604)
    found = {one.words.partition(":")[0]: one for one in secret_checks(settings)}
    assert found["mac_key_file"].result == "warning"
    assert found["gateway.token_file"].result == "failed", "the gateway refuses it"
    key.write_text("")
    token.unlink()
    found = {one.words.partition(":")[0]: one for one in secret_checks(settings)}
    assert {one.result for one in found.values()} == {"failed"}
    assert "canary" not in str(found)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a file of root's")
def test_a_secret_that_kubernetes_mounts_for_our_group_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fsGroup` makes 0440 of 0400 for ever: nobody could mend it."""
    key, token = tmp_path / "key", tmp_path / "token"
    for path in (key, token):
        path.write_text("a-secret-of-kubernetes")
        os.chown(path, 0, 1000)
        path.chmod(0o440)
    settings = load_settings({"data_dir": tmp_path, "mac_key_file": key, "gateway": {"token_file": token}})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [1000])
    assert only(secret_checks(settings)).result == "ok"
    monkeypatch.setattr(os, "getegid", lambda: 1001)
    monkeypatch.setattr(os, "getgroups", lambda: [1001])
    assert {one.result for one in secret_checks(settings)} == {"warning", "failed"}, "another group's"


def test_a_disk_that_is_full_of_bytes_or_of_files_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "bytes", "-t", "tmpfs", "-o", "size=80m", "tmpfs") as folder:
        assert only(space_checks(folder, 0)).result == "ok"
        assert only(space_checks(folder, 256)).result == "failed", "commands are ended below their reserve"
        (folder / "filler").write_bytes(b"x" * (40 << 20))
        found = only(space_checks(folder, 0))
        assert (found.result, found.figures["free_mib"]) == ("failed", 40)
    with mounted(tmp_path / "files", "-t", "tmpfs", "-o", "nr_inodes=500", "tmpfs") as folder:
        assert "small files" in only(space_checks(folder, 0)).todo


def test_space_is_that_of_the_disk_that_will_hold_a_directory_which_is_not_there_yet(tmp_path: Path) -> None:
    assert only(space_checks(tmp_path / "a" / "b", 0)).figures["free_mib"] > 0


def test_a_writer_that_was_stopped_under_the_lock_is_named_with_its_pid(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "LONG_S", 0.3)
    with volume.session_folder("main", create=True):
        path = volume.path_of("main") / "history.jsonl"
    path.touch()
    assert only(writers.writer_checks(volume.root)).result == "ok"
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        wait_until(lambda: state_of(holder.pid) == "T")
        found = only(writers.writer_checks(volume.root))
        holder.kill()
    assert found.result == "failed"
    assert f"process {holder.pid} " in found.words
    assert "stopped" in found.words
    assert found.todo == f"kill -CONT {holder.pid}, or kill -9 {holder.pid}"
    assert only(writers.writer_checks(volume.root)).result == "ok"


def test_a_writer_that_appends_is_no_fault(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is held nearly all the time, and the transcript grows."""
    monkeypatch.setattr(writers, "LONG_S", 1.0)
    with volume.session_folder("main", create=True):
        path = volume.path_of("main") / "history.jsonl"
    path.touch()
    again = (
        "import fcntl, os, sys, time; d = os.open(sys.argv[1], os.O_RDWR | os.O_APPEND); print('runs', flush=True)\n"
        "while True:\n fcntl.flock(d, 2); os.write(d, b'line'); time.sleep(.02); fcntl.flock(d, fcntl.LOCK_UN)"
    )
    with subprocess.Popen([sys.executable, "-c", again, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        found: Any = only(writers.writer_checks(volume.root))
        holder.kill()
    assert found.result == "ok"


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
