"""The glob of search_files, said in the lines of an ignore file, which both engines understand alike.

Pure text; it must not match anything itself.
"""

import re
from dataclasses import dataclass

from agent_session.tools.base import ToolError

GLOB_CHARS, ALTERNATIVES = 500, 64
BRACES = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Only:
    """Which files, by patterns as ignore files have them: some of the wanted, none of the unwanted."""

    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()

    def ignore_lines(self) -> list[str]:
        """All is ignored but folders and what is wanted; hidden files stay hidden."""
        return ["*", "!*/", *(f"!{one}" for one in self.wanted), ".*"] if self.wanted else []

    def ripgrep_options(self) -> list[str]:
        """What the ignore lines cannot do: win against a workspace's own lines that let files in (`!x`).
        `--glob=x` would let in what the workspace ignores; a type is only what a name must look like."""
        names = [one.rpartition("/")[2] for one in self.wanted]
        types = [] if any(":" in name for name in names) else names
        types = [f"--type-add=wanted:{'*' if name == '**' else name}" for name in types]
        return [*types, *(["--type=wanted"] if types else []), *(f"--glob=!{one}" for one in self.unwanted)]


def only(glob: str) -> Only:
    """Errors: ToolError."""
    if not glob:
        return Only()
    if len(glob) > GLOB_CHARS or any(letter < " " for letter in glob):
        raise ToolError(f"the glob must be one line of at most {GLOB_CHARS} characters")
    if glob.count("[") > glob.count("]"):
        raise ToolError(f"the glob {glob!r} has a [ without its ]")
    found = [_plain(one) for one in alternatives(glob.removeprefix("!").removeprefix("./"))]
    if not all(found):
        raise ToolError(f"the glob {glob!r} names nothing")
    return Only(unwanted=tuple(found)) if glob.startswith("!") else Only(wanted=tuple(found))


def alternatives(glob: str) -> list[str]:
    """`a.{b,c}` as `a.b` and `a.c`: git's ignore files know no braces. Errors: ToolError."""
    done: list[str] = []
    left = [glob]
    while left:
        one = left.pop(0)
        found = BRACES.search(one)
        if found is None:
            done.append(one)
            continue
        left = [one[: found.start()] + part + one[found.end() :] for part in found[1].split(",")] + left
        if len(done) + len(left) > ALTERNATIVES:
            raise ToolError(f"the glob stands for more than {ALTERNATIVES} others")
    return done


def plain_names(text: str) -> list[str]:
    """Of an ignore file in a folder above, the lines that mean the same further down: without a path."""
    lines = (line.rstrip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#") and "/" not in line.rstrip("/")]


def _plain(pattern: str) -> str:
    pattern = f"{pattern}**" if pattern.endswith("/") else pattern  # a folder: all that is in it
    return f"\\{pattern}" if pattern.startswith(("#", "!")) else pattern
