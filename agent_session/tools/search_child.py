"""Search the files below the working directory, as ripgrep would. Run as a script by `search_files.py`, in
a limited child, because Python's regular expressions can take for ever.

`search_child.py <what to search, as JSON>` prints `path NUL line:text`. It opens everything relative to
the handle of a folder and follows no link; it imports nothing of ours, and nothing heavy before it runs.
"""

import json
import os
import re
import stat
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathspec import PathSpec

IGNORE_FILES = (".rgignore", ".ignore", ".gitignore")  #: the stronger first, whichever folder they are in
IGNORE_BYTES = 64 * 1024
DEPTH = 200
BINARY_BYTES = 64 * 1024
MARKS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8"))
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Rules:
    """The lines of one ignore file. Folders are asked about on the way down, so that a line about folders
    only (`x/`) must not be asked about the files in them."""

    def __init__(self, lines: list[str]) -> None:
        self._for_folders = _spec(lines)
        self._for_files = _spec([line for line in lines if not line.rstrip().endswith("/")])

    def ignore(self, path: str) -> bool | None:
        """Whether a path is ignored (a folder's ends with a slash); None when nothing is said of it."""
        spec = self._for_folders if path.endswith("/") else self._for_files
        return None if spec is None else spec.check_file(path).include


Level = tuple[str, dict[str, Rules]]  #: a folder's path with its slash, and its ignore files


class Search:
    def __init__(self, wanted: dict[str, Any]) -> None:
        self.pattern = re.compile(wanted["pattern"])
        self.chars, self.bytes = int(wanted["chars"]), int(wanted["bytes"])
        self.above = Rules(wanted["above"])
        self.wanted, self.unwanted = _spec(wanted["wanted"]), _spec(wanted["unwanted"])

    def folder(self, handle: int, path: str, levels: list[Level]) -> None:
        names = sorted(os.listdir(handle), key=os.fsencode)
        levels = [*levels, (path, {name: Rules(_lines(handle, name)) for name in IGNORE_FILES if name in names})]
        for name in names:
            try:
                mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
                if name.startswith("."):
                    continue
                if stat.S_ISDIR(mode) and len(levels) < DEPTH and not self.ignored(f"{path}{name}/", levels):
                    below = os.open(name, FOLDER_FLAGS, dir_fd=handle)
                    try:
                        self.folder(below, f"{path}{name}/", levels)
                    finally:
                        os.close(below)
                elif stat.S_ISREG(mode) and not self.ignored(path + name, levels):
                    self.file(os.open(name, FILE_FLAGS, dir_fd=handle), path + name)
            except OSError:
                continue  # gone, swapped for a link, or not ours to read

    def ignored(self, path: str, levels: list[Level]) -> bool:
        if self.unwanted is not None and self.unwanted.match_file(path):
            return True
        if self.wanted is not None and not path.endswith("/") and not self.wanted.match_file(path):
            return True
        for name in IGNORE_FILES:
            for base, rules in reversed(levels):
                said = rules[name].ignore(path[len(base) :]) if name in rules else None
                if said is not None:
                    return said
        return self.above.ignore(path) or False

    def file(self, descriptor: int, path: str) -> None:
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode) or os.fstat(descriptor).st_size > self.bytes:
                return
            data = file.read(self.bytes)
        encoding = "utf-8"
        for mark, name in MARKS:
            if data.startswith(mark):
                data, encoding = data[len(mark) :], name
                break
        nul = data.find(b"\0") if encoding == "utf-8" else -1
        if nul >= 0:  # binary: from its start on, or further down
            data = data[: data.rfind(b"\n", 0, nul) + 1] if nul >= BINARY_BYTES else b""
        lines = data.decode(encoding, "replace").split("\n")
        for number, line in enumerate(lines[:-1] if not lines[-1] else lines, 1):  # no line after the last end
            if self.pattern.search(line):
                sys.stdout.write(f"{path}\0{number}:{line[: self.chars]}\n")


def _spec(lines: list[str]) -> "PathSpec[Any] | None":
    if not lines:
        return None
    from pathspec import PathSpec

    fine: list[str] = []
    for line in lines:  # one at a time: a line that means nothing must not take the others with it
        try:
            PathSpec.from_lines("gitignore", [line])
        except ValueError:
            continue
        fine.append(line)
    return PathSpec.from_lines("gitignore", fine)


def _lines(handle: int, name: str) -> list[str]:
    try:
        with os.fdopen(os.open(name, FILE_FLAGS, dir_fd=handle), "rb") as file:
            return file.read(IGNORE_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def main() -> int:
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    wanted = json.loads(sys.argv[1])
    try:
        search = Search(wanted)
    except (re.error, OverflowError, RecursionError) as error:
        print(f"regex parse error: {error}", file=sys.stderr)
        return 2
    if wanted["is_file"] and os.fstat(0).st_size > search.bytes:
        print(f"the file is larger than {search.bytes} bytes, too large without ripgrep", file=sys.stderr)
        return 2
    if wanted["is_file"]:
        search.file(os.dup(0), "<stdin>")
    else:
        search.folder(os.open(".", FOLDER_FLAGS), "", [])
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    try:
        code = main()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # 1 would mean: nothing found
        code = 3
    sys.exit(code)
