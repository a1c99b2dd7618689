"""Patterns that a person allowed for a session, or a setting asks about.

Pure. A pattern for commands matches one simple command, word by word, a last word `*` standing for any
rest: no operator, expansion, quoting trick or newline gets past it, because a command that holds one
matches nothing. A pattern for other tools is the exact subject, or its beginning before a last `*`.
"""

import shlex
from dataclasses import dataclass

PATTERN_CHARS = 200
PATTERNS = 20  #: a session carries
ANY = "*"
#: programs, and subcommands, that run what follows: a pattern with a star would allow anything
RUNS_OTHERS = frozenset(
    ("sh", "bash", "dash", "zsh", "env", "exec", "sudo", "doas", "su", "nohup", "nice", "ionice", "time", "timeout",
     "watch", "xargs", "find", "ssh", "rm", "python", "python3", "perl", "ruby", "node", "busybox", "setsid", "command",
     "builtin", "eval", "flock", "chroot", "unshare", "strace", "script", "parallel", "make", "npx", "uvx", "pipx")
)  # fmt: skip
SUBCOMMANDS_THAT_RUN = frozenset(("run", "exec", "x", "dlx", "shell", "eval", "ssh", "fetch", "clone", "pull", "push"))
NOT_SIMPLE = frozenset(";&|<>()$`\\\n\r*?[]{}~!#^%=\"'")


@dataclass(frozen=True, kw_only=True)
class AllowedPattern:
    """What a person allowed for the session: calls of this tool that match, in turns of that principal,
    confined at least as they were then. Signed by the worker that checked the decision."""

    tool: str
    pattern: str
    principal: str
    confinement: str = ""
    mac: str = ""


def simple_words(command: str) -> list[str] | None:
    """The words of one simple command; None for anything that a shell would do more with."""
    if not command.isprintable() or NOT_SIMPLE & set(command):
        return None
    return shlex.split(command) or None


def matches(pattern: str, subject: str, *, is_command: bool) -> bool:
    """Whether the pattern covers a call with this subject."""
    if not subject or not pattern:
        return False
    if not is_command:
        return subject == pattern or (pattern.endswith(ANY) and subject.startswith(pattern[:-1]))
    words, wanted = simple_words(subject), pattern.split()
    if words is None or not wanted or wanted == [ANY]:
        return False
    if wanted[-1] == ANY:
        return words[: len(wanted) - 1] == wanted[:-1]
    return words == wanted


def suggested(subject: str, *, is_command: bool) -> str:
    """The pattern to offer with a request: a program with its subcommand (`git status *`), else the very
    subject; empty where no pattern could match."""
    if not is_command:
        return subject if len(subject) <= PATTERN_CHARS and subject.isprintable() and not subject.endswith(ANY) else ""
    words = simple_words(subject)
    if words is None:
        return ""
    with_subcommand = len(words) > 1 and words[1].isalpha() and words[0] not in RUNS_OTHERS
    with_subcommand = with_subcommand and words[1] not in SUBCOMMANDS_THAT_RUN
    pattern = " ".join([*words[:2], ANY] if with_subcommand else words)
    return pattern if len(pattern) <= PATTERN_CHARS else ""


def covers(pattern: str, subject: str, *, is_command: bool) -> bool:
    """Whether a setting's pattern asks about this subject. Turned round on purpose: where `matches` lets only
    what is surely covered run, this asks about whatever may be, in any part of a longer command."""
    if not is_command:
        return matches(pattern, subject, is_command=False)
    head = pattern.removesuffix(ANY)
    return " ".join(head.split()) in " ".join(subject.split()) or simple_words(subject) is None
