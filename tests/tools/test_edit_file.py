"""`edit_file`: once, exactly, or not at all."""

from pathlib import Path

import pytest

from agent_session.tools import ToolError
from tests.tools.conftest import Call


async def test_a_piece_is_replaced_and_the_difference_shown(call: Call, workspace: Path) -> None:
    (workspace / "f").write_text("one\ntwo\nthree\n")
    shown = await call("edit_file", path="f", old="two", new="zwei")
    assert (workspace / "f").read_text() == "one\nzwei\nthree\n"
    assert "-two" in shown
    assert "+zwei" in shown


@pytest.mark.parametrize(("old", "words"), [("o", "2 times"), ("four", "0 times"), ("", "not empty")])
async def test_what_does_not_occur_exactly_once_changes_nothing(
    call: Call, workspace: Path, old: str, words: str
) -> None:
    (workspace / "f").write_text("one two\n")
    with pytest.raises(ToolError, match=words):
        await call("edit_file", path="f", old=old, new="x")
    assert (workspace / "f").read_text() == "one two\n"


async def test_a_link_and_a_binary_are_left_alone(call: Call, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("one")
    (workspace / "link").symlink_to(tmp_path / "outside")
    (workspace / "binary").write_bytes(b"\xff\xfe one")
    for name in ("link", "binary", "../outside"):
        with pytest.raises(ToolError):
            await call("edit_file", path=name, old="one", new="two")
    assert (tmp_path / "outside").read_text() == "one"
