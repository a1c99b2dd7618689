"""`search_files`: the same answers with ripgrep and without, nothing outside the workspace, bounded."""

import asyncio
import ctypes
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent_session.paths import folder
from agent_session.settings import ToolsSettings
from agent_session.tools import ToolError, search_files
from agent_session.tools.limited import LimitedError, Limits, run_limited
from agent_session.tools.limited_start import CREATE_RULESET
from tests.e2e.support import alive, command_of, descendants, wait_until
from tests.tools.conftest import Call


@pytest.fixture(params=["ripgrep", "python"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    if request.param == "python":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif shutil.which("rg") is None:
        pytest.skip("there is no ripgrep here")
    return request.param


@pytest.fixture
def tree(workspace: Path, tmp_path: Path) -> Path:
    files = {
        ".gitignore": "node_modules/\n*.log\n/only_here.txt\n",
        ".ignore": "!kept.log\n",
        ".hidden.py": "needle\n",
        ".git/config": "needle\n",
        "a.py": "one\nneedle two\n\tneedle three\n",
        "B.md": "Needle\n",
        "binary": "needle \0\n",
        "kept.log": "needle\n",
        "lost.log": "needle\n",
        "node_modules/x.py": "needle\n",
        "only_here.txt": "needle\n",
        "src/.gitignore": "made/*\n!made/by_hand.py\n",
        "src/b c.js": "needle\r\n",
        "src/deep/node_modules/x.js": "needle\n",
        "src/deep/c.ts": "# --needle\n",
        "src/made/by_hand.py": "needle\n",
        "src/made/x.py": "needle\n",
        "src/only_here.txt": "needle\n",
        "white/.gitignore": "*\n!*/\n!*.md\n",
        "white/x/d.md": "needle\n",
        "white/x/d.py": "needle\n",
    }
    for name, text in files.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_bytes(text.encode())
    (workspace / "wide.txt").write_bytes("wide needle é\n".encode("utf-16"))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("needle in a secret\n")
    (tmp_path / ".gitignore").write_text("*\n")  # above the workspace: not its rules
    (workspace / "folder_link").symlink_to(tmp_path / "outside")
    (workspace / "file_link").symlink_to(tmp_path / "outside" / "secret")
    return workspace


ALL = [
    "a.py:2: needle two",
    "a.py:3: \tneedle three",
    "kept.log:1: needle",
    "src/b c.js:1: needle",
    "src/deep/c.ts:1: # --needle",
    "src/made/by_hand.py:1: needle",
    "src/only_here.txt:1: needle",
    "white/x/d.md:1: needle",
    "wide.txt:1: wide needle é",
]


def of(*names: str) -> list[str]:
    return [line for line in ALL if line.startswith(tuple(f"{name}:" for name in names))]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ALL),
        ({"glob": "*.py"}, of("a.py", "src/made/by_hand.py")),
        ({"glob": "src/**/*.{js,ts}"}, of("src/deep/c.ts", "src/b c.js")),
        ({"glob": "!*.{py,md,js}"}, of("kept.log", "src/deep/c.ts", "src/only_here.txt", "wide.txt")),
        ({"path": "src"}, of("src/b c.js", "src/deep/c.ts", "src/made/by_hand.py", "src/only_here.txt")),
        ({"path": "src/deep", "glob": "*.ts"}, of("src/deep/c.ts")),
        ({"path": "a.py"}, of("a.py")),
        ({"path": "lost.log"}, ["lost.log:1: needle"]),
        ({"path": "node_modules"}, ["node_modules/x.py:1: needle"]),
        ({"path": ".git"}, [".git/config:1: needle"]),
        ({"pattern": "(?i)^needle$", "path": "B.md"}, ["B.md:1: Needle"]),
        ({"pattern": "--needle"}, of("src/deep/c.ts")),
    ],
    ids=str,
)
async def test_both_engines_give_the_same_lines(
    call: Call, tree: Path, engine: str, arguments: dict[str, str], expected: list[str]
) -> None:
    found = await call("search_files", **{"pattern": "needle", **arguments})
    assert sorted(found.split("\n")) == sorted(expected)


async def test_results_are_in_the_order_of_their_paths(call: Call, tree: Path, engine: str) -> None:
    found = (await call("search_files", pattern="needle")).split("\n")
    assert found == ALL


@pytest.mark.parametrize("pattern", ["--files", "-e", "--pre=sh", "-", "--", "--ignore-file=/etc/passwd"])
async def test_a_pattern_is_never_an_option(call: Call, tree: Path, engine: str, pattern: str) -> None:
    (tree / "options").write_text(f"x {pattern} y\n")
    assert f"options:1: x {pattern} y" in await call("search_files", pattern=pattern)


@pytest.mark.parametrize("path", ["../outside", "/etc", "folder_link", "file_link", "folder_link/secret", "nowhere"])
async def test_nothing_outside_the_workspace_is_searched(call: Call, tree: Path, engine: str, path: str) -> None:
    with pytest.raises(ToolError):
        await call("search_files", pattern="needle", path=path)


async def test_the_whole_result_of_a_call_is_searched(call: Call, tree: Path, engine: str) -> None:
    name = "artifacts/t-0123456789abcdef-3-1"
    (tree.parent / "artifacts").mkdir()
    (tree.parent / name).write_text("one\nneedle\n")
    assert await call("search_files", pattern="needle", path=name) == f"{name}:2: needle"
    assert "artifacts" not in await call("search_files", pattern="needle")


async def test_a_bad_line_of_an_ignore_file_leaves_the_others(call: Call, tree: Path, engine: str) -> None:
    (tree / "src" / ".ignore").write_text("//\n[\n*.ts\n")
    assert (await call("search_files", pattern="needle")).split("\n") == [one for one in ALL if ".ts" not in one]


async def test_a_fifo_is_not_waited_for(call: Call, tree: Path, engine: str) -> None:
    os.mkfifo(tree / "fifo")
    assert (await call("search_files", pattern="needle")).split("\n") == ALL
    with pytest.raises(ToolError, match="regular file"):
        await call("search_files", pattern="needle", path="fifo")


@pytest.mark.parametrize("pattern", ["(", "[a", "*x"])
async def test_a_bad_pattern_is_explained(call: Call, tree: Path, engine: str, pattern: str) -> None:
    with pytest.raises(ToolError, match="parse error"):
        await call("search_files", pattern=pattern)


@pytest.mark.parametrize(
    "arguments",
    [{"pattern": ""}, {"pattern": "a\nb"}, {"glob": "a\n*"}, {"glob": "[a"}, {"glob": "{a,b}" * 9}],
    ids=str,
)
async def test_arguments_that_mean_nothing_are_refused(call: Call, tree: Path, arguments: dict[str, str]) -> None:
    with pytest.raises(ToolError):
        await call("search_files", **{"pattern": "x", **arguments})


async def test_no_match_is_said(call: Call, tree: Path, engine: str) -> None:
    assert await call("search_files", pattern="nowhere at all") == "No line matches in the workspace."
    assert await call("search_files", pattern="nowhere at all", path="a.py") == "No line matches in a.py."


async def test_too_many_and_too_long_lines_are_cut_and_that_is_said(call: Call, tree: Path, engine: str) -> None:
    (tree / "many").write_text("match me\n" * 100_000)
    (tree / "long").write_text("match me" + "x" * 100_000 + "\n")
    shown = (await call("search_files", pattern="match me", max_results=5)).split("\n")
    assert len(shown) == 6
    assert shown[0].startswith("long:1: match mexxx")
    assert len(shown[0]) < 400
    assert shown[0].endswith("…")
    assert shown[-1].startswith("… cut: there are more than 5")
    most = await call("search_files", pattern="match me", path="many", max_results=10_000)
    assert len(most.split("\n")) == 1_001


async def test_a_pattern_that_takes_for_ever_is_stopped(
    call: Call, tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Python's expressions can; ripgrep's cannot. The limit is on processor time, the interpreter stays free."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(search_files, "LIMITS", replace(search_files.LIMITS, cpu_s=1, wall_s=60))
    (tree / "evil").write_text("a" * 40 + "!\n")
    with pytest.raises(ToolError, match="more than 1 s of processor time"):
        await call("search_files", pattern="(a+)+$")


async def test_a_cancelled_search_leaves_no_process(
    call: Call, tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tree / "evil").write_text("a" * 40 + "!\n")
    task = asyncio.create_task(call("search_files", pattern="(a+)+$"))

    async def children() -> list[int]:
        while not (found := [pid for pid in descendants(os.getpid()) if "search_child" in command_of(pid)]):
            await asyncio.sleep(0.01)
        return found

    found = await asyncio.wait_for(children(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(alive(pid) for pid in found)


async def test_the_child_sees_no_secret_of_ours(call: Call, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program called rg that prints its environment stands in for ripgrep."""
    folder = tree.parent / "bin"
    folder.mkdir()
    (folder / "rg").write_text("#!/bin/sh\nprintf 'env\\0001:'; env | grep -v ^PWD | tr '\\n' ' '\n")
    (folder / "rg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("MY_CANARY", "canary-key")
    shown = await call("search_files", pattern="x", tools=ToolsSettings())
    assert shown.startswith("env:1: ")
    assert "PATH=" in shown
    assert "canary" not in shown


async def test_a_ripgrep_that_cannot_be_run_is_done_without(
    call: Call, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree.parent / "bin"
    folder.mkdir()
    (folder / "rg").write_text("#!/no/such/interpreter\n")
    (folder / "rg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert (await call("search_files", pattern="needle")).split("\n") == ALL


async def test_a_link_that_takes_a_folders_place_in_mid_search_leads_nowhere(tree: Path, tmp_path: Path) -> None:
    """What ripgrep would do with it, done by a program that follows links for certain."""
    if not has_landlock():
        pytest.skip("this kernel has no Landlock")
    assert await _cat(tree, "a.py", confined=True) == (0, b"one\nneedle two\n\tneedle three\n")
    for path in ("folder_link/secret", "file_link", str(tmp_path / "outside" / "secret"), "/etc/passwd"):
        assert await _cat(tree, path, confined=False) != (1, b"")
        assert await _cat(tree, path, confined=True) == (1, b"")


async def _cat(tree: Path, path: str, *, confined: bool) -> tuple[int, bytes]:
    with folder(tree) as handle:
        command = [os.path.realpath("/bin/cat"), path]
        done = await run_limited(command, given=b"", limits=Limits(), folder=handle, confined=confined)
    return done.code, done.output


def has_landlock() -> bool:
    return sys.platform.startswith("linux") and ctypes.CDLL(None).syscall(CREATE_RULESET, None, 0, 1) > 0


@pytest.mark.parametrize(
    ("code", "wall_s", "words"),
    [
        ("while True: pass", 60, "processor time"),
        ("import time; time.sleep(60)", 3, "longer than 3 s"),
        ("x = bytearray(1 << 31)", 60, "memory"),
        ("import os; os.abort()", 60, "signal 6"),
    ],
)
async def test_a_child_that_takes_too_much_is_ended_and_says_of_what(code: str, wall_s: float, words: str) -> None:
    with pytest.raises(LimitedError, match=words):
        await run_limited([sys.executable, "-c", code], given=b"", limits=Limits(wall_s=wall_s, cpu_s=1))


async def test_a_child_writes_no_file_and_no_more_than_its_output(tmp_path: Path) -> None:
    writes = f"import pathlib; pathlib.Path({str(tmp_path / 'made')!r}).write_text('x')"
    done = await run_limited([sys.executable, "-c", writes], given=b"", limits=Limits())
    assert "File too large" in done.errors
    assert (tmp_path / "made").read_text() == ""
    endless = [sys.executable, "-c", "while True: print('x' * 9999)"]
    done = await run_limited(endless, given=b"", limits=Limits(output_bytes=100_000))
    assert done.cut
    assert len(done.output) == 100_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the limit on processor time ends it")
def test_a_child_does_not_outlive_a_worker_that_is_killed() -> None:
    """A worker in small, killed in mid-work."""
    worker = (
        "import asyncio, sys; from agent_session.tools.limited import Limits, run_limited; "
        "command = [sys.executable, '-c', 'import time; time.sleep(4646)']; "
        "asyncio.run(run_limited(command, given=b'', limits=Limits(wall_s=99)))"
    )
    process = subprocess.Popen([sys.executable, "-c", worker])
    try:
        found = wait_until(
            lambda: [
                pid for pid in descendants(process.pid) if command_of(pid).endswith("-c import time; time.sleep(4646) ")
            ]
        )
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not any(alive(pid) for pid in found), 5)
