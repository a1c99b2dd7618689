"""`read_file`: any encoding said, any size paged, whole results found; and who may write instructions."""

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from agent_session.settings import ToolsSettings, load_settings
from agent_session.tools import ToolError, load_toolbox
from tests.tools.conftest import Call

CALL = "t-0123456789abcdef-3-1"
SMALL = ToolsSettings.model_validate({"files": {"max_read_bytes": 4096}})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("grün\n".encode(), "grün\n"),
        (b"", ""),
        ("grün\n".encode("utf-8-sig"), "(encoding: utf-8, with a byte order mark)\ngrün\n"),
        (b"\xff\xfe" + "grün\n".encode("utf-16-le"), "(encoding: utf-16-le)\ngrün\n"),
        (b"\xfe\xff" + "grün\n".encode("utf-16-be"), "(encoding: utf-16-be)\ngrün\n"),
        (b"\xff\xfe\0\0" + "grün\n".encode("utf-32-le"), "(encoding: utf-32-le)\ngrün\n"),
        ("grün\n".encode("latin-1"), "(encoding: latin-1)\ngrün\n"),
    ],
)
async def test_an_encoding_that_is_not_utf8_is_told(call: Call, workspace: Path, data: bytes, expected: str) -> None:
    (workspace / "f").write_bytes(data)
    assert await call("read_file", path="f") == expected


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("x", b"\x89PNG\r\n\x1a\n" + b"\0" * 9, "image/png"),
        ("x", b"%PDF-1.7\nwords\n", "application/pdf"),
        ("x", gzip.compress(b"words", mtime=0), "gzip"),
        ("x.wasm", b"a\0b", "wasm"),
        ("x", b"a\0b", "not known"),
        ("x", bytes(range(1, 256)) * 4, "not known"),
    ],
)
async def test_a_binary_file_is_told_with_its_size_and_kind(
    call: Call, workspace: Path, name: str, data: bytes, kind: str
) -> None:
    (workspace / name).write_bytes(data)
    with pytest.raises(ToolError, match=f"binary file of {len(data)} bytes: .*{kind}"):
        await call("read_file", path=name)


async def test_lines_of_a_file_of_any_size_are_read(call: Call, workspace: Path) -> None:
    with open(workspace / "f", "w") as file:
        file.writelines(f"line {number}\n" for number in range(1, 300_001))
    assert await call("read_file", path="f", first_line=299_999) == "line 299999\nline 300000\n"
    assert await call("read_file", path="f", first_line=2, last_line=3) == "line 2\nline 3\n"
    size = (workspace / "f").stat().st_size
    with pytest.raises(ToolError, match=f"{size} bytes, which is larger .* in 300000 lines: .* first_line"):
        await call("read_file", path="f")
    with pytest.raises(ToolError, match="300000 lines"):
        await call("read_file", path="f", first_line=300_001)


async def test_a_part_that_is_too_large_says_where_to_read_on(call: Call, workspace: Path) -> None:
    lines = [f"line {number}\n" for number in range(1, 2_001)]
    (workspace / "f").write_text("".join(lines))
    read, at = "", 2
    while True:
        shown = await call("read_file", tools=SMALL, path="f", first_line=at, last_line=1_999)
        text, cut, note = shown.partition("\n… cut before line ")
        read += text
        if not cut:
            break
        at = int(note.split(":")[0])
    assert read == "".join(lines[1:1_999])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
async def test_a_very_long_line_is_read_in_bytes_without_breaking_a_character(
    call: Call, workspace: Path, encoding: str
) -> None:
    text = "grüße " * 2_000 if encoding == "latin-1" else "grüße 世界 " * 2_000
    (workspace / "f").write_bytes(text.encode(encoding))
    with pytest.raises(ToolError, match="first_byte"):
        await call("read_file", tools=SMALL, path="f")
    read, at = "", 0
    while True:
        shown = await call("read_file", tools=SMALL, path="f", first_byte=at, bytes=1_001)
        head, _, part = shown.removeprefix(
            f"(encoding: {encoding}{'-le' if encoding == 'utf-16' else ''})\n"
        ).partition("\n")
        read += part
        if "first_byte=" not in head:
            break
        at = int(head.split("first_byte=")[1].rstrip(")"))
    assert read == text


async def test_a_long_line_among_lines_says_its_byte(call: Call, workspace: Path) -> None:
    (workspace / "f").write_text("short\n" + "x" * 10_000 + "\nend\n")
    shown = await call("read_file", tools=SMALL, path="f", first_line=2, last_line=2)
    assert shown.startswith("x" * 4096)
    assert "first_byte=4102" in shown
    assert (await call("read_file", tools=SMALL, path="f", first_byte=10_000)).endswith("xxxxxx\nend\n")


async def test_lines_of_a_wide_encoding_are_counted(call: Call, workspace: Path) -> None:
    (workspace / "f").write_bytes("eins\nzwei\ndrei\n".encode("utf-16"))
    assert await call("read_file", path="f", first_line=2, last_line=2) == "(encoding: utf-16-le)\nzwei\n"


@pytest.mark.parametrize(
    "arguments",
    [{"first_byte": -1}, {"bytes": -1}, {"first_byte": 3}, {"first_byte": 1, "first_line": 2}, {"last_line": -1}],
)
async def test_a_part_that_is_not_there_is_an_error(call: Call, workspace: Path, arguments: dict[str, int]) -> None:
    (workspace / "f").write_text("one")
    with pytest.raises(ToolError):
        await call("read_file", path="f", **arguments)


async def test_a_sparse_giant_costs_no_memory(call: Call, workspace: Path) -> None:
    with open(workspace / "f", "wb") as file:
        file.write(b"line\n" * 20_000)
        file.truncate(10 * 1024**3)
    assert await call("read_file", path="f", first_line=19_999, last_line=20_000) == "line\nline\n"
    assert (await call("read_file", path="f", first_byte=0, bytes=5)).endswith(")\nline\n")
    with pytest.raises(ToolError, match="very many lines"):
        await call("read_file", path="f")
    with pytest.raises(ToolError, match="use first_byte"):
        await call("read_file", path="f", first_line=30_000)


async def test_the_whole_result_of_a_call_is_read_in_parts(call: Call, tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / CALL).write_text("one\ntwo\nthree\n")
    assert await call("read_file", path=f"artifacts/{CALL}", first_line=2, last_line=2) == "two\n"
    with pytest.raises(ToolError, match="does not exist"):
        await call("read_file", path=f"artifacts/{CALL}0")


async def test_the_workspaces_own_file_of_that_name_comes_first(call: Call, tmp_path: Path, workspace: Path) -> None:
    for folder, text in ((tmp_path / "artifacts", "ours"), (workspace / "artifacts", "its own")):
        folder.mkdir()
        (folder / CALL).write_text(text)
    assert await call("read_file", path=f"artifacts/{CALL}") == "its own"


@pytest.mark.parametrize(
    "name", ["../workspace/f", "x", ".", "..", f"{CALL}/x", f"../artifacts/{CALL}", f"./../{CALL}"]
)
async def test_nothing_else_beside_the_workspace_is_read(call: Call, tmp_path: Path, name: str) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "x").write_text("not a call")
    (tmp_path / "artifacts" / CALL).write_text("result")
    with pytest.raises(ToolError):
        await call("read_file", path=f"artifacts/{name}")


async def test_a_link_among_the_results_is_not_followed(call: Call, tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "artifacts" / CALL).symlink_to(tmp_path / "secret")
    with pytest.raises(ToolError, match="symbolic link"):
        await call("read_file", path=f"artifacts/{CALL}")


async def test_results_are_never_written(call: Call, tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / CALL).write_text("ours")
    with pytest.raises(ToolError):
        await call("edit_file", path=f"artifacts/{CALL}", old="ours", new="theirs")
    await call("write_file", path=f"artifacts/{CALL}", text="theirs")
    assert (tmp_path / "artifacts" / CALL).read_text() == "ours"
    assert (workspace / "artifacts" / CALL).read_text() == "theirs"


async def test_a_fifo_and_a_folder_are_refused_at_once(call: Call, workspace: Path) -> None:
    os.mkfifo(workspace / "fifo")
    (workspace / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(ToolError, match="not a regular file"):
            await call("read_file", path=name)


@pytest.fixture
def tools(tmp_path: Path) -> Any:
    box = load_toolbox(load_settings({"data_dir": tmp_path}), "offline")
    return {name: box.find(name) for name in ("write_file", "edit_file", "read_file")}


@pytest.mark.parametrize("name", ["write_file", "edit_file"])
@pytest.mark.parametrize(
    "path",
    ["AGENTS.md", "agents.MD", "./AGENTS.md", ".//AGENTS.md", "AGENTS.md/", "HEARTBEAT.md",
     "/data/x/workspace/AGENTS.md", "sub/../AGENTS.md", "../AGENTS.md", "agent\u017f.md", "\uff21GENTS.md"],
)  # fmt: skip
async def test_changing_an_instruction_file_asks_a_person(tools: Any, name: str, path: str) -> None:
    assert "steers the agent" in tools[name].asks({"path": path}, ToolsSettings())


@pytest.mark.parametrize("path", ["notes.md", "docs/AGENTS.md", "AGENTS.md.txt", "", "a"])
async def test_changing_another_file_does_not(tools: Any, path: str) -> None:
    assert tools["write_file"].asks({"path": path}, ToolsSettings()) == ""
    assert tools["read_file"].asks({"path": "AGENTS.md"}, ToolsSettings()) == ""


async def test_which_files_instruct_is_a_setting(tools: Any) -> None:
    only = ToolsSettings.model_validate({"instruction_files": ["CLAUDE.md"]})
    assert tools["write_file"].asks({"path": "claude.md"}, only).startswith("claude.md is an instruction file")
    assert tools["write_file"].asks({"path": "AGENTS.md"}, only) == ""


async def test_a_pattern_meets_a_path_however_it_was_written(tools: Any) -> None:
    assert {tools["write_file"].subject({"path": path}) for path in ("a/b", "./a//b", "a/./b")} == {"a/b"}
