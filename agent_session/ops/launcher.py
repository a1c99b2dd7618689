"""Start a command that must not outlive us. Run as a script:
`launcher.py <fd> <cwd fd or -> <limits or -> command…`.

Holds the reading end of a pipe from its parent. At end of file (the parent is gone, however it went) or
when the command has ended, everything that the command started is killed: its process group and, on
Linux, what escaped from it, because orphans come back to this process (PR_SET_CHILD_SUBREAPER). Works
where PDEATHSIG does not reach (grandchildren, macOS). Standard library only: it starts in milliseconds.

Limits (`processes=256,memory=N,file=N,reserve=N,hold=NAMES`, in bytes) hold for the command and all that it
starts, together: see `launcher_limits.py`.
"""

import os
import select
import signal
import sys

TYPE_CHECKING = False  # the module costs 10 ms
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
WATCH_S = 0.05


def linux_only(option: int, value: int) -> None:
    """Call `prctl`; where there is none, the pipe and the process group are all there is."""
    if not sys.platform.startswith("linux") or "AGENT_SESSION_LAUNCHER_PLAIN" in os.environ:
        return
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def kill_adopted() -> None:
    """Kill children that are left, until there are none: each kill may hand us the next generation."""
    for _ in range(1000):
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = [int(pid) for pid in file.read().split()]
        except OSError:
            return
        if not children:
            return
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


def limits_module() -> "Any":
    """The neighbour, found beside this script: isolated mode looks nowhere else."""
    if (here := os.path.dirname(os.path.abspath(__file__))) not in sys.path:
        sys.path.insert(0, here)
    import launcher_limits

    return launcher_limits


def close_handles() -> None:
    """All but the standard ones: from a handle on a folder a sandboxed command could walk out of its world."""
    try:
        handles = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        handles = list(range(3, 1024))
    for handle in handles:
        if handle > 2:
            try:
                os.close(handle)
            except OSError:
                pass  # it was the one that listed the folder


def start(command: list[str], folder: int | None, limits: "Any") -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        linux_only(PR_SET_PDEATHSIG, signal.SIGKILL)  # should this launcher itself be killed
        os.setsid()
        if folder is not None:
            os.fchdir(folder)
        if limits is not None:
            limits.confine_child()
        close_handles()
        if limits is not None:
            limits_module().pass_filter()
        for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def ignore(number: int, frame: object) -> None:
    """The wake-up descriptor is what counts."""


def main() -> None:
    pipe, command = int(sys.argv[1]), sys.argv[4:]
    folder = None if sys.argv[2] == "-" else int(sys.argv[2])
    limits = None
    if sys.argv[3] != "-" and folder is not None:
        limits = limits_module().Limits(sys.argv[3], folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is our parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    linux_only(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the command come back to us
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, ignore)
    child = start(command, folder, limits)
    if limits is not None:
        limits.go_first()
    elif folder is not None:
        os.close(folder)

    def pass_on(number: int, frame: object) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGTERM, pass_on)  # a polite stop is for the command
    status = None
    while status is None:
        readable, _, _ = select.select([pipe, woken], [], [], None if limits is None else WATCH_S)
        if pipe in readable and not os.read(pipe, 4096):
            break
        if woken in readable:
            os.read(woken, 4096)
            pid, raw = os.waitpid(child, os.WNOHANG)
            status = raw if pid else None
        if limits is not None and status is None and (why := limits.excess()):
            os.write(2, f"\n(stopped: {why})\n".encode())
            break
    if limits is not None and status is None:
        limits.kill_now()
    kill_group(child)
    if status is None:
        try:
            os.kill(child, signal.SIGKILL)  # it may not have had the time to become a group's leader
            status = os.waitpid(child, 0)[1]
        except (ChildProcessError, ProcessLookupError):
            status = 0
    kill_adopted()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
