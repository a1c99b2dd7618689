"""What the launcher adds for a sandboxed command: limits over everything that it starts, together, and a few
doors closed before bubblewrap closes the rest. Imported by `launcher.py` only; standard library only.

Counted every 50 ms, because rlimits count per process, or per user, or not at all for root, and not
everybody may make a memory cgroup.
"""

import ctypes
import os
import platform
import resource
import signal
import struct

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
KEYCTL_JOIN_SESSION_KEYRING = 1
FEWEST_INODES = 1_000
FIRST_GENERATIONS = 6  #: network helper, bubblewrap, its child, the sandbox's init
SECCOMP_FD = 3  #: where bubblewrap finds the filter

ERRNO_RETURN, ALLOW_RETURN, ENOSYS = 0x00050000, 0x7FFF0000, 38
LOAD, JUMP_EQUAL, JUMP_GREATER, RETURN = 0x20, 0x15, 0x35, 0x06
X32_BIT = 0x40000000
#: by machine: the audit word, and the numbers of calls that hold memory where nobody counts it, reach keys of
#: the worker, or open large parts of the kernel that commands can do without
#: (memfd_create, memfd_secret, shmget, add_key, request_key, keyctl, bpf, perf_event_open, userfaultfd, io_uring_setup)
REFUSED_CALLS = {
    "x86_64": (0xC000003E, (319, 447, 29, 248, 249, 250, 321, 298, 323, 425)),
    "aarch64": (0xC00000B7, (279, 447, 194, 217, 218, 219, 280, 241, 282, 425)),
}


def parse(text: str) -> dict[str, str]:
    return dict(one.split("=", 1) for one in text.split(","))


class Limits:
    """`processes`, `memory`, `file`, `reserve` (bytes), `hold` (names in the folder that must stay the same)."""

    def __init__(self, text: str, folder: int) -> None:
        given = parse(text)
        self.processes, self.memory = int(given["processes"]), int(given["memory"])
        self.file, self.reserve = int(given["file"]), int(given["reserve"])
        self.folder = folder
        self.held = {name: self._identity(name) for name in given.get("hold", "").split(":") if name}

    def confine_child(self) -> None:
        """In the child, before it becomes another program. Errors: OSError."""
        free = os.fstatvfs(self.folder)
        room = max(0, free.f_bavail * free.f_frsize - self.reserve)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (min(self.file, room), min(self.file, room)))
        libc = ctypes.CDLL(None, use_errno=True)
        _, calls = REFUSED_CALLS.get(platform.machine(), (0, ()))
        if calls:
            libc.syscall(calls[5], KEYCTL_JOIN_SESSION_KEYRING, None)  # an empty one instead of the worker's
        if os.geteuid() == 0:
            protect_devices(libc)

    def go_first(self) -> None:
        """Be heard over thousands of processes that want to run; where we may, which is where no rlimit holds
        them back."""
        hurry(0)

    def kill_now(self) -> None:
        """Kill the first generations, where the sandbox's init is: with it the kernel kills all the others. It
        has to run to die, before the thousands that want to run, too."""
        seen = children_of(os.getpid())
        for pid in seen:
            hurry(pid)
            if len(seen) < FIRST_GENERATIONS:
                seen += children_of(pid)
        for pid in reversed(seen[:FIRST_GENERATIONS]):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def excess(self) -> str:
        """Which limit is passed, in words; empty when none is."""
        free = os.fstatvfs(self.folder)
        if self.reserve and free.f_bavail * free.f_frsize < self.reserve:
            return f"the disk has less than {self.reserve >> 20} MiB free"
        if self.reserve and free.f_files > 0 and free.f_favail < FEWEST_INODES:
            return "the disk has no room for more files"
        for name, was in self.held.items():
            if self._identity(name) != was:
                return f"{name} was replaced meanwhile"
        return self._processes_and_memory()

    def _processes_and_memory(self) -> str:
        seen, tasks, memory = children_of(os.getpid()), 0, 0
        for pid in seen:  # grows while we go
            tasks += tasks_of(pid)
            if tasks > self.processes or len(seen) > self.processes:
                return f"more than {self.processes} processes"
            memory += memory_of(pid)
            seen += children_of(pid)
        return f"more than {self.memory >> 20} MiB of memory" if memory > self.memory else ""

    def _identity(self, name: str) -> object:
        try:
            info = os.stat(name, dir_fd=self.folder, follow_symlinks=False)
            return info.st_dev, info.st_ino
        except OSError:
            return None


def hurry(pid: int) -> None:
    """Run it before everything that is not in a hurry; its children are not."""
    try:
        os.sched_setscheduler(pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except (OSError, AttributeError):
        pass


def protect_devices(libc: ctypes.CDLL) -> None:
    """Root in the sandbox's user namespace is root on the host: it could change the modes of /dev/null and
    the like, which bubblewrap binds. Errors: OSError."""
    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "mount namespace")
    libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
    for name in DEVICES:
        path = f"/dev/{name}".encode()
        if libc.mount(path, path, None, MS_BIND, None) != 0:
            continue
        if libc.mount(None, path, None, MS_REMOUNT | MS_BIND | MS_RDONLY, None) != 0:
            raise OSError(ctypes.get_errno(), f"/dev/{name}")


def pass_filter() -> None:
    """Leave the seccomp filter where bubblewrap reads it. An unknown machine gets one that allows all."""
    program = seccomp_filter(platform.machine())
    reading, writing = os.pipe()
    os.write(writing, program)
    os.close(writing)
    if reading != SECCOMP_FD:
        os.dup2(reading, SECCOMP_FD)
        os.close(reading)
    os.set_inheritable(SECCOMP_FD, True)


def seccomp_filter(machine: str) -> bytes:
    """Classic BPF: refused calls answer ENOSYS, as if the kernel had none; so do those of another ABI."""
    word, calls = REFUSED_CALLS.get(machine, (0, ()))
    if not calls:
        return struct.pack("=HBBI", RETURN, 0, 0, ALLOW_RETURN)
    last = len(calls) + 1  # jumps are counted from the next instruction
    lines = [(LOAD, 0, 0, 4), (JUMP_EQUAL, 0, last + 2, word), (LOAD, 0, 0, 0)]
    lines.append((JUMP_GREATER, last, 0, X32_BIT) if machine == "x86_64" else (JUMP_GREATER, 0, 0, X32_BIT))
    lines += [(JUMP_EQUAL, len(calls) - index, 0, number) for index, number in enumerate(calls)]
    lines += [(RETURN, 0, 0, ALLOW_RETURN), (RETURN, 0, 0, ERRNO_RETURN | ENOSYS)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def children_of(pid: int) -> list[int]:
    """Of all its threads."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:
        pass  # it has just ended
    return found


def tasks_of(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def memory_of(pid: int) -> int:
    """Resident bytes that are its own or in shared memory; files that it reads are not counted."""
    total = 0
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) * 1024
    except OSError:
        pass
    return total
