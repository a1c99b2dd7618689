"""Start a command that must not outlive us. Run as a script: `launcher.py <fd> <cwd fd or -> command…`.

Holds the reading end of a pipe from its parent. At end of file (the parent is gone, however it went) or
when the command has ended, everything that the command started is killed: its process group and, on
Linux, what escaped from it, because orphans come back to this process (PR_SET_CHILD_SUBREAPER). Works
where PDEATHSIG does not reach (grandchildren, macOS). Standard library only: it starts in milliseconds.
"""

import os
import select
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


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


def start(command: list[str], folder: int | None) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        linux_only(PR_SET_PDEATHSIG, signal.SIGKILL)  # should this launcher itself be killed
        os.setsid()
        if folder is not None:
            os.fchdir(folder)
        for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def ignore(number: int, frame: object) -> None:
    """The wake-up descriptor is what counts."""


def main() -> None:
    pipe, folder, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is our parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    linux_only(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the command come back to us
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, ignore)
    child = start(command, None if folder == "-" else int(folder))
    if folder != "-":
        os.close(int(folder))

    def pass_on(number: int, frame: object) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGTERM, pass_on)  # a polite stop is for the command
    status = None
    while status is None:
        readable, _, _ = select.select([pipe, woken], [], [])
        if pipe in readable and not os.read(pipe, 4096):
            break
        if woken in readable:
            os.read(woken, 4096)
            pid, raw = os.waitpid(child, os.WNOHANG)
            status = raw if pid else None
    kill_group(child)
    if status is None:
        try:
            status = os.waitpid(child, 0)[1]
        except ChildProcessError:
            status = 0
    kill_adopted()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
