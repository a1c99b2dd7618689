"""The commands about channels, as a person runs them, and `up`, which runs a channel's process."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_session.transcript.volume import Volume
from channels.slack import pairing
from tests.channels.system_support import PostOffice
from tests.e2e.support import Up, wait_until
from tests.support import fresh_key


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostOffice, Up]]:
    """`up` with the postbox installed and configured."""
    folder = tmp_path_factory.mktemp("channels")
    office = PostOffice(folder)
    more = {name: office.environment[name] for name in ("PYTHONPATH", "POSTBOX_DIR")}
    up = Up(folder / "data", "--no-gateway", **more)
    try:
        yield office, up.wait_ready()
    finally:
        assert up.stop() == 0, up.errors.read_text()


def process_of(up: Up) -> int:
    (pid,) = wait_until(lambda: up.pids("channels run postbox"))
    return int(pid)


def test_up_runs_a_configured_channel_and_starts_it_again_when_it_dies(served: tuple[PostOffice, Up]) -> None:
    office, up = served
    office.put("ada-1", "remember one")
    office.until_posted("ada", 1)
    first = process_of(up)
    os.kill(first, signal.SIGKILL)
    office.put("ada-2", "remember two")
    assert office.until_posted("ada", 2) == ["I will remember: one", "I will remember: two"]
    assert process_of(up) != first


def test_only_its_own_process_delivers_for_a_channel_that_has_one(served: tuple[PostOffice, Up]) -> None:
    office, up = served
    wait_until(lambda: office.status()[0] == 0)
    rows = {one["name"]: one for one in json.loads(office.run("channels", "status", "--json").stdout)}
    assert {one.partition("-")[0] for one in rows["postbox"]["pollers"]} == {"channel"}
    assert {one.partition("-")[0] for one in rows["file"]["pollers"]} == {"worker"}
    assert (up.data_dir / "logs" / "channel-postbox.err").exists()


def test_status_is_green_until_a_probe_finds_something_wrong(served: tuple[PostOffice, Up]) -> None:
    office, _ = served
    wait_until(lambda: office.status("--probe")[0] == 0)
    code, found = office.status("--probe")
    assert (code, found["probe"], found["problem"]) == (0, "", "")
    assert office.status()[1]["probe"] is None, "nothing is tried unless it is asked for"
    (office.folder / "broken").touch()
    try:
        code, found = office.status("--probe")
        shown = office.run("channels", "status", "--probe")
    finally:
        (office.folder / "broken").unlink()
    assert (code, found["problem"]) == (1, "the postbox is broken: mend it")
    assert shown.returncode == 1
    assert "postbox · in and out · PROBLEM: the postbox is broken: mend it" in shown.stdout
    assert "file · out · ok, tried" in shown.stdout


def test_list_needs_no_service_and_says_what_is_missing(tmp_path: Path) -> None:
    office = PostOffice(tmp_path)
    listed = office.run("channels", "list")
    assert listed.returncode == 0, listed.stderr
    assert "postbox · in and out · files · configured · agent-session.channel.postbox" in listed.stdout.splitlines()
    del office.environment["POSTBOX_DIR"]
    assert "postbox · in and out · files · not configured: set POSTBOX_DIR" in office.run("channels", "list").stdout
    (found,) = [one for one in json.loads(office.run("channels", "list", "--json").stdout) if one["name"] == "postbox"]
    assert found == {
        "name": "postbox", "receives": True, "delivers": True, "can": ["files"],
        "missing": "set POSTBOX_DIR to the folder of the letters", "task_queue": "agent-session.channel.postbox",
    }  # fmt: skip


def test_what_cannot_run_is_refused_in_words(tmp_path: Path) -> None:
    office = PostOffice(tmp_path)
    nothing_runs = office.run("channels", "status")
    assert (nothing_runs.returncode, nothing_runs.stdout) == (4, "")
    assert "agent-session up" in nothing_runs.stderr
    nobody = office.run("channels", "run", "pigeon")
    assert nobody.returncode == 2
    assert "there is no channel 'pigeon'" in nobody.stderr
    assert "postbox" in nobody.stderr
    idle = office.run("channels", "run", "cli")
    assert idle.returncode == 2
    assert "nothing to run" in idle.stderr
    del office.environment["POSTBOX_DIR"]
    bare = office.run("channels", "run", "postbox")
    assert bare.returncode == 2
    assert "set POSTBOX_DIR" in bare.stderr
    for done in (nothing_runs, nobody, idle, bare):
        assert "Traceback" not in done.stderr


def test_a_stranger_is_paired_listed_and_removed_by_command(tmp_path: Path) -> None:
    office = PostOffice(tmp_path)
    volume = Volume(tmp_path / "data")
    volume.create()
    code = pairing.offer(volume, "U7", "Eve\x1b[2J")
    waits = office.run("channels", "pair", "list")
    assert f"code {code}" in waits.stdout
    assert "\x1b" not in waits.stdout, "a name is somebody else's text"
    approved = office.run("channels", "pair", "approve", code.lower())
    assert (approved.returncode, pairing.is_paired(volume, "U7")) == (0, True), approved.stderr
    assert "U7 " in approved.stderr
    shown = json.loads(office.run("channels", "pair", "list", "--json").stdout)
    assert ([one["user"] for one in shown["paired"]], shown["waiting"]) == (["U7"], [])
    again = office.run("channels", "pair", "approve", code)
    assert (again.returncode, "Traceback" in again.stderr) == (2, False)
    assert "is open" in again.stderr
    assert [office.run("channels", "pair", "remove", "U7").returncode for _ in range(2)] == [0, 1]
    assert not pairing.is_paired(volume, "U7")


def test_up_works_at_a_temporal_that_only_a_flag_names(tmp_path: Path, temporal_address: str) -> None:
    """What runs below it is told where."""
    office = PostOffice(tmp_path)
    queue = {"AGENT_SESSION_TASK_QUEUE": fresh_key("q")}
    more = {name: office.environment[name] for name in ("PYTHONPATH", "POSTBOX_DIR")}
    up = Up(tmp_path / "data", "--no-gateway", "--address", temporal_address, **more, **queue)
    try:
        up.wait_ready()
        ada = fresh_key("ada").replace("-", "")
        office.put(f"{ada}-1", "remember one")
        assert office.until_posted(ada, 1) == ["I will remember: one"]
    finally:
        assert up.stop() == 0, up.errors.read_text()


def test_a_start_that_gets_nowhere_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        up = Up(tmp_path / "data", "--no-gateway", "--address", f"127.0.0.1:{silent.getsockname()[1]}")
        wait_until(lambda: up.workers() or up.process.poll() is not None)
        assert up.stop() == 0, up.errors.read_text()
