"""I11: the sandbox's world is the workspace. Every way out is tried, from inside, with the real bubblewrap."""

import asyncio
import http.server
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent_session.sandbox.confinement import Confinement, confinement_of, why_no_network, why_no_sandbox
from agent_session.sandbox.jobs import LOST, RUNNING, Jobs
from agent_session.settings import ShellSettings, ToolsSettings
from agent_session.tools import ToolError
from tests.e2e.support import alive, command_of, descendants
from tests.support import until_true

REQUIRED = "AGENT_TESTS_REQUIRE_ALL" in os.environ
PUBLIC = "203.0.113.7"  #: kept for documentation: nobody's, so it can stand for a public address here


@pytest.fixture(autouse=True)
def _bubblewrap() -> None:
    if why_no_sandbox() and not REQUIRED:
        pytest.skip(why_no_sandbox())
    assert not why_no_sandbox()


def confined(**shell: Any) -> ToolsSettings:
    return ToolsSettings.model_validate({"shell": {"sandbox": "bubblewrap", **shell}})


@pytest.fixture
def sh(call: Any) -> Callable[..., Any]:
    """Run a command in the sandbox."""

    async def run(command: str, timeout_s: int = 20, **shell: Any) -> str:
        return await call("shell", tools=confined(**shell), command=command, timeout_s=timeout_s)

    return run


async def test_the_workspace_is_writable_and_nothing_else_is(sh: Any, workspace: Path) -> None:
    said = await sh("echo mine > note; cat note; for d in / /usr /etc /dev /usr/bin; do touch $d/x; done; pwd")
    assert (workspace / "note").read_text() == "mine\n"
    assert said.startswith("mine\n")
    assert said.count("Read-only file system") == 5
    assert "/workspace" in said


async def test_home_and_tmp_are_empty_and_vanish(sh: Any) -> None:
    assert (
        await sh("ls -A ~ /tmp | tr -d '\\n'; echo x > ~/x; echo y > /tmp/y; cat ~/x /tmp/y")
        == "/home/agent:/tmp:x\ny\n"
    )
    assert "No such file" in await sh("cat ~/x")


@pytest.mark.parametrize(
    "path",
    ["{data}/config.toml", "{data}/mac.key", "{data}/live.sock", "{data}/other-session/secret", "~/.ssh", "/root",
     "/run", "/var", "/sys", "/proc/1/root/etc/shadow", "/etc/shadow", "../config.toml", "/workspace/../mac.key"],
)  # fmt: skip
async def test_what_lies_outside_is_not_there(sh: Any, workspace: Path, path: str) -> None:
    data = workspace.parent
    for name in ("config.toml", "mac.key", "live.sock", "other-session/secret"):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_text("canary")
    said = await sh(f"cat {path.format(data=data)} 2>&1; ls -A {path.format(data=data)} 2>&1; true")
    assert "canary" not in said
    assert "No such file" in said or "Not a directory" in said


async def test_a_link_out_of_the_workspace_leads_nowhere(sh: Any, workspace: Path) -> None:
    (workspace.parent / "mac.key").write_text("canary")
    said = await sh(f"ln -s {workspace.parent}/mac.key link; cat link; ln -s / root; ls root/root")
    assert "canary" not in said


async def test_no_environment_variable_of_the_worker_is_seen(sh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-key")
    said = await sh("env; cat /proc/self/environ /proc/1/environ; cat /proc/*/environ")
    assert "canary" not in said
    assert "ANTHROPIC" not in said


async def test_only_its_own_processes_and_handles_are_seen(sh: Any) -> None:
    said = await sh("ls /proc | grep -c '^[0-9]'; ls -l /proc/self/fd | grep -v 'pipe:\\|/dev/null\\|/proc/' | wc -l")
    processes, handles = map(int, said.split())
    assert processes < 8
    assert handles <= 2  # the list's first line, and nothing that leads out


async def test_it_has_no_capability_and_gets_none(sh: Any) -> None:
    said = await sh("grep Cap /proc/self/status | sort -u -k2 | wc -l; unshare -Ur true; mount -t tmpfs x /tmp; true")
    assert said.startswith("1\n")
    assert "unshare failed" in said or "unshare: " in said
    assert "mount: " in said


async def test_it_has_no_terminal_to_push_keys_into(sh: Any) -> None:
    """TIOCSTI."""
    push = "import fcntl,termios; fcntl.ioctl(open('/dev/tty'), termios.TIOCSTI, b'x')"
    assert "No such device" in await sh(f'python3 -c "{push}"')


async def test_a_fork_bomb_is_ended_and_the_worker_lives(sh: Any) -> None:
    said = await sh("b() { b | b & }; b; sleep 15", processes=64)
    assert "more than 64 processes" in said or "fork" in said.lower()
    assert len(descendants(os.getpid())) < 64


async def test_memory_is_limited_for_all_processes_together(sh: Any) -> None:
    eat = "python3 -c \"x = b'x' * (60 << 20); import time; time.sleep(10)\""
    assert "more than 100 MiB of memory" in await sh(f"{eat} & {eat} & wait", memory_mb=100)


async def test_tmp_and_one_file_are_limited(sh: Any) -> None:
    command = "for f in /tmp/a /dev/shm/a b; do head -c 3M /dev/zero > $f; done; ls -l b"
    said = await sh(command, tmp_mb=1, file_mb=2)
    assert said.count("No space left") == 2
    assert "2097152" in said


async def test_a_command_that_fills_the_disk_is_ended_before_the_transcript_has_no_room(
    call: Any, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", small], check=False, capture_output=True
    )
    if mounted.returncode and not REQUIRED:
        pytest.skip("no right to mount a small disk here")
    try:
        from agent_session.sandbox.command import Command

        tools = confined(disk_reserve_mb=16)
        running = await Command.start(
            "i=0; while :; do head -c 1M /dev/zero > f$i; i=$((i+1)); sleep 0.02; done", small, tools
        )
        assert running.process.stdout is not None
        said = (await asyncio.wait_for(running.process.stdout.read(), 20)).decode()
        await running.end()
        assert "less than 16 MiB free" in said
        assert shutil.disk_usage(small).free > 4 << 20
    finally:
        subprocess.run(["umount", "-l", small], check=False)


async def test_what_it_leaves_behind_dies_with_it(sh: Any) -> None:
    await sh("(setsid nohup sleep 4646 >/dev/null 2>&1 &); sleep 0.2")
    assert not any("sleep 4646" in command_of(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc"))))


@pytest.fixture
def listeners() -> Iterator[int]:
    """A server on every address of this host, loopback too."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"reached")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    subprocess.run(["ip", "addr", "add", f"{PUBLIC}/32", "dev", "lo"], check=False, capture_output=True)
    yield server.server_address[1]
    subprocess.run(["ip", "addr", "del", f"{PUBLIC}/32", "dev", "lo"], check=False, capture_output=True)
    server.shutdown()


def reach(address: str, port: int) -> str:
    connect = f"import socket; s=socket.create_connection(('{address}', {port}), 3); print('reached')"
    return f'python3 -c "{connect}" 2>&1 | tail -1'


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((PUBLIC, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


async def test_without_network_nothing_is_reached(sh: Any, listeners: int) -> None:
    for address in ("127.0.0.1", own_address(), PUBLIC, "169.254.169.254"):
        assert "reached" not in await sh(reach(address, listeners)), address


async def test_with_network_the_internet_is_reached_and_neither_host_nor_metadata_nor_private_ranges(
    sh: Any, listeners: int
) -> None:
    if why_no_network() and not REQUIRED:
        pytest.skip(why_no_network())
    if os.geteuid() != 0 and not REQUIRED:
        pytest.skip("making another machine's network needs root")
    assert confinement_of(confined(network=True).shell) == Confinement("bubblewrap", "own")
    assert "reached" in await beyond_the_host(sh)
    for address in (
        "127.0.0.1",
        own_address(),
        "198.18.0.2",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.0.1",
        "100.64.0.1",
    ):
        if address != PUBLIC:
            said = await sh(reach(address, listeners), network=True)
            assert "reached" not in said, address


async def answers(host: str, port: int) -> bool:
    """Whether this process, which no sandbox confines, reaches it."""
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def beyond_the_host(sh: Any) -> str:
    """Ask a server that is neither on this host nor in its networks: one in a namespace behind a link of its
    own, routed by a single address."""
    plumbing = [
        "ip netns add beyond", "ip link add beyond0 type veth peer name beyond1 netns beyond",
        "ip link set beyond0 up", "ip addr add 203.0.113.130/32 peer 203.0.113.131/32 dev beyond0",
        "ip netns exec beyond ip link set lo up", "ip netns exec beyond ip link set beyond1 up",
        "ip netns exec beyond ip addr add 203.0.113.131/32 dev beyond1",
        "ip netns exec beyond ip route add 203.0.113.130/32 dev beyond1",
        "ip netns exec beyond ip addr add 203.0.113.200/32 dev lo",
        "ip route add 203.0.113.200/32 via 203.0.113.131 dev beyond0 onlink",
    ]  # fmt: skip
    try:
        for line in plumbing:
            subprocess.run(line.split(), check=True, capture_output=True)
        server = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", "beyond", "python3", "-m", "http.server", "8099", "--bind", "203.0.113.200",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await until_true(partial(answers, "203.0.113.200", 8099))
            return str(await sh(reach("203.0.113.200", 8099), network=True))
        finally:
            server.terminate()
            await server.wait()
    finally:
        for line in ("ip netns del beyond", "ip link del beyond0"):
            subprocess.run(line.split(), check=False, capture_output=True)


async def test_instruction_files_can_neither_be_written_nor_made(sh: Any, workspace: Path) -> None:
    (workspace / "AGENTS.md").write_text("Be kind.")
    said = await sh(
        "echo evil > AGENTS.md; echo evil > HEARTBEAT.md; rm -f AGENTS.md HEARTBEAT.md; mv note AGENTS.md; "
        "ln -sf /tmp/x HEARTBEAT.md; cat AGENTS.md"
    )
    assert (workspace / "AGENTS.md").read_text() == "Be kind."
    assert not (workspace / "HEARTBEAT.md").exists(), "the placeholder is taken away again"
    assert said.endswith("Be kind.")


async def test_a_placeholder_stays_while_another_command_runs(call: Any, sh: Any, workspace: Path) -> None:
    long = asyncio.create_task(sh("while [ ! -e go ]; do sleep 0.05; done; echo evil > HEARTBEAT.md"))
    while not (workspace / "HEARTBEAT.md").exists():
        await asyncio.sleep(0.02)
    await sh("true")
    assert (workspace / "HEARTBEAT.md").exists()
    (workspace / "go").touch()
    assert "Read-only" in await long
    assert not (workspace / "HEARTBEAT.md").exists()


async def test_an_instruction_file_that_is_a_link_stops_the_command(sh: Any, workspace: Path) -> None:
    (workspace / "AGENTS.md").symlink_to("/etc/passwd")
    with pytest.raises(ToolError, match=r"AGENTS\.md is a link"):
        await sh("true")


def test_a_machine_without_a_sandbox_asks_and_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    why_no_sandbox.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    try:
        from agent_session.sandbox.confinement import _confinement  # pyright: ignore[reportPrivateUsage]

        _confinement.cache_clear()
        asks = confinement_of(ShellSettings())
        refused = confinement_of(ShellSettings(sandbox="bubblewrap"))
        bare = confinement_of(ShellSettings(sandbox="none"))
        _confinement.cache_clear()
    finally:
        why_no_sandbox.cache_clear()
    assert "apt install bubblewrap" in asks.asks
    assert "apt install bubblewrap" in refused.refused
    assert (bare.asks, bare.refused) == ("", "")


async def test_a_job_goes_on_after_its_step_and_is_stopped_with_all_it_started(call: Any, workspace: Path) -> None:
    begun = await call("shell_start", tools=confined(), command="echo up; sleep 4747 & sleep 4747")
    assert "running" in begun
    assert "up\n" in begun
    assert "sleep 4747" in await call("shell_poll", job="")
    stopped = await call("shell_stop", job="c")
    assert "stopped" in stopped
    assert not any("sleep 4747" in command_of(pid) for pid in descendants(os.getpid()))


async def test_a_job_that_ends_says_how_and_what_it_printed(call: Any) -> None:
    await call("shell_start", tools=confined(), command="seq 1 3; exit 4")
    shown = await call("shell_poll", job="c", first_byte=2)
    assert "ended with exit code 4" in shown
    assert "\n2\n3\n" in shown


async def test_the_fate_of_a_job_whose_worker_died_is_told(workspace: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from agent_session.sandbox.jobs import Jobs; from agent_session.settings import ToolsSettings\n"
        "async def go():\n"
        "    await Jobs(Path(sys.argv[1])).start('j', 'sleep 4848', Path(sys.argv[2]), ToolsSettings())\n"
        "    print('started', flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(go())"
    )
    import sys

    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(workspace.parent), str(workspace), stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    await asyncio.wait_for(worker.stdout.readline(), 20)
    jobs, pid = Jobs(workspace.parent), worker.pid
    children = descendants(pid)
    assert jobs.look("j").state == RUNNING
    worker.kill()
    await worker.wait()
    assert (await jobs.ended("j", 5)).state == LOST
    assert not any(alive(child) for child in children)


@pytest.mark.parametrize("job", ["../x", "/etc/passwd", "a/b", "", "nothing"])
async def test_a_job_that_is_not_there_is_an_error_in_words(call: Any, job: str) -> None:
    with pytest.raises(ToolError, match="job"):
        await call("shell_stop", job=job)


async def test_the_hosts_kernel_settings_and_devices_cannot_be_changed(sh: Any) -> None:
    """Root in the sandbox's user namespace is root by its id for /proc/sys and for the modes of devices."""
    said = await sh(
        "for f in kernel/core_pattern kernel/panic; do echo 1 > /proc/sys/$f && echo WRITTEN; done;"
        "for d in null zero full random urandom tty; do chmod 777 /dev/$d && echo CHANGED; done;"
        "echo x > /dev/null && head -c 2 /dev/zero | wc -c"
    )
    assert "WRITTEN" not in said
    assert "CHANGED" not in said
    assert said.rstrip().endswith("2")


async def test_memory_that_no_process_owns_is_refused_or_counted(sh: Any) -> None:
    shared = "import mmap,time; m = mmap.mmap(-1, 300 << 20); m.write(b'x' * (300 << 20)); time.sleep(10)"
    assert "MiB of memory" in await sh(f'python3 -c "{shared}"', memory_mb=100)
    hidden = "import os; os.memfd_create('x')"
    assert "not implemented" in await sh(f'python3 -c "{hidden}" 2>&1')


async def test_threads_are_counted(sh: Any) -> None:
    many = "import threading,time; [threading.Thread(target=time.sleep, args=(9,)).start() for _ in range(300)]"
    assert "more than 64 processes" in await sh(f'python3 -c "{many}" 2>&1', processes=64)


async def test_a_command_that_floods_is_ended_in_time(sh: Any) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(ToolError, match="killed after 1 s"):
            await sh("cat /dev/zero", timeout_s=1)


async def test_an_instruction_file_that_is_replaced_on_the_host_ends_the_command(
    call: Any, sh: Any, workspace: Path
) -> None:
    """A rename on the host would lift the file's protection in the sandbox."""
    (workspace / "AGENTS.md").write_text("Be kind.")
    loop = asyncio.create_task(sh("touch running; while :; do echo EVIL > AGENTS.md; sleep 0.01; done 2>/dev/null"))
    while not (workspace / "running").exists():
        await asyncio.sleep(0.02)
    with pytest.raises(ToolError, match="while a command runs"):
        await call("write_file", path="AGENTS.md", text="Be kinder.")
    (workspace / "new").write_text("Be kinder.")
    os.replace(workspace / "new", workspace / "AGENTS.md")  # as an editor saves
    assert "AGENTS.md was replaced meanwhile" in await asyncio.wait_for(loop, 10)


@pytest.mark.parametrize("command", ["sleep 1 # \udc80", "x" * 40_000])
async def test_a_jobs_command_that_cannot_be_kept_is_refused_and_hides_no_other(call: Any, command: str) -> None:
    with pytest.raises(ToolError, match="text of at most"):
        await call("shell_start", tools=confined(), command=command)
    assert await call("shell_poll") == "There are no jobs."


async def test_a_relative_entry_of_path_does_not_mean_the_workspace(
    sh: Any, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "bwrap").write_text("#!/bin/sh\necho planted\n")
    (workspace / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f":.:{os.environ['PATH']}")
    assert await sh("echo fine") == "fine\n"


async def test_a_host_address_without_a_network_of_its_own_is_not_reached(sh: Any, listeners: int) -> None:
    """As some cloud machines have: a /32, which no route shows."""
    if why_no_network() and not REQUIRED:
        pytest.skip(why_no_network())
    assert "reached" not in await sh(reach(PUBLIC, listeners), network=True)
