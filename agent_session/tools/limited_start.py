"""Put limits on this process, then become another program. Run as a script by `limited.py`:
`limited_start.py <parent pid> <folder fd or -> <cpu seconds> <memory bytes> <handles or -> program arguments…`.

Limits are set here and not between fork and exec of the worker, where a threaded process may run nothing
safely. They outlive the exec, so the program cannot take them off. It must import the standard library only.
"""

import ctypes
import os
import resource
import signal
import stat
import sys

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  #: Landlock's numbers, the same on every processor
READ_FILE, READ_DIR = 4, 8
SYSTEM = ("/usr", "/lib", "/lib64", "/nix", "/etc/ld.so.cache")  #: where a program's libraries are
NOT_STARTED = 127


def die_with(parent: int) -> None:
    """Be killed when the worker is (Linux; elsewhere the limit on processor time ends us)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went before we could ask
        os._exit(1)


def limit(what: int, soft: int, hard: int) -> None:
    try:
        resource.setrlimit(what, (soft, hard))
    except (ValueError, OSError):
        pass  # the system knows no such limit, or ours is stricter already


class Ruleset(ctypes.Structure):
    _fields_ = (("handled", ctypes.c_uint64),)


class Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("handle", ctypes.c_int32))


def read_only_from(handles: list[int], program: str) -> None:
    """Let nothing be opened to read but these, what is below them, and the program with its libraries: a
    path that is swapped for a link in mid-work then leads nowhere. Linux with Landlock; elsewhere nothing."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    handled = Ruleset(READ_FILE | READ_DIR)
    rules = libc.syscall(CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    if rules < 0:
        return
    for path in (*SYSTEM, program):
        try:
            handles.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
        except OSError:
            pass
    for handle in handles:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        rule = Rule(READ_FILE | READ_DIR if is_folder else READ_FILE, handle)
        libc.syscall(ADD_RULE, rules, 1, ctypes.byref(rule), 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.syscall(RESTRICT_SELF, rules, 0)
    os.close(rules)


def main() -> None:
    parent, folder, cpu_s, memory = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    handles, command = sys.argv[5], sys.argv[6:]
    die_with(parent)
    limit(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    limit(resource.RLIMIT_AS, memory, memory)
    limit(resource.RLIMIT_FSIZE, 0, 0)
    limit(resource.RLIMIT_CORE, 0, 0)
    if folder != "-":
        os.fchdir(int(folder))
    if handles != "-":
        read_only_from([int(one) for one in handles.split(",")], command[0])
    if folder != "-":
        os.close(int(folder))
    try:
        os.execv(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(NOT_STARTED)


if __name__ == "__main__":
    main()
