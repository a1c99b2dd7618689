"""A die keeps the contract of a tool, and shows a side that it has."""

from pathlib import Path

import pytest

from agent_session.tools.base import ToolError
from tests.contracts.tool import check_call, check_tool
from tests.examples.tool.dice import roll


async def test_a_die_shows_one_of_its_sides(tmp_path: Path) -> None:
    check_tool(roll)
    assert await check_call(roll, tmp_path, sides=1) == "1"
    assert await check_call(roll, tmp_path) in "123456"
    with pytest.raises(ToolError, match="at least one side"):
        await check_call(roll, tmp_path, sides=0)
