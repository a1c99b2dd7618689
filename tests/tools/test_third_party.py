"""A tool, a model and a channel from another package are found by entry point, as pip would install them."""

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agent_session.models as models
import channels
from agent_session.settings import load_settings
from agent_session.tools import BadTool, load_toolbox
from tests.support import Service, fresh_key

PACKAGE = """
    from agent_session.models.base import ModelAnswer
    from agent_session.tools import ToolContext, tool
    from channels.base import Capabilities

    @tool(effects="none", timeout_s=5)
    async def roll(ctx: ToolContext, sides: int = 6) -> str:
        '''Roll a die.'''
        return f"rolled {sides}"

    class Parrot:
        name = "parrot:green"
        async def answer(self, prompt, on_text):
            return ModelAnswer("Polly says " + prompt.lines[-1]["content"])
        async def warm(self):
            return None

    PREFIXES = ("parrot",)

    def create(name, settings):
        return Parrot()

    class Pigeon:
        name, capabilities = "pigeon", Capabilities(delivers=True)

    def pigeon(settings):
        return Pigeon()
"""
ENTRY_POINTS = """
    [agent_session.tools]
    roll = stranger

    [agent_session.models]
    parrot = stranger

    [agent_session.channels]
    pigeon = stranger:pigeon
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a distribution named `stranger` on sys.path."""

    def install(source: str) -> None:
        site = tmp_path / "site"
        info = site / "stranger-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "stranger.py").write_text(textwrap.dedent(source))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(ENTRY_POINTS))
        monkeypatch.setattr(sys, "path", [str(site), *sys.path])
        monkeypatch.delitem(sys.modules, "stranger", raising=False)
        models._factories.cache_clear()
        channels._factories.cache_clear()

    yield install  # type: ignore[misc]
    models._factories.cache_clear()
    channels._factories.cache_clear()


async def test_a_strangers_tool_is_offered_and_called(
    installed: Callable[[str], None], make_service: Callable[..., Any]
) -> None:
    installed(PACKAGE)
    service: Service = await make_service()
    async with service.worker():
        assert (await service.ask(fresh_key(), 'call roll {"sides": 20}')).text == "rolled 20"


async def test_a_strangers_model_answers(installed: Callable[[str], None], make_service: Callable[..., Any]) -> None:
    installed(PACKAGE)
    service: Service = await make_service(model={"name": "parrot:green"})
    async with service.worker():
        assert (await service.ask(fresh_key(), "hello")).text == "Polly says hello"


def test_a_strangers_channel_is_found(installed: Callable[[str], None], tmp_path: Path) -> None:
    installed(PACKAGE)
    assert channels.load_channel("pigeon", load_settings({"data_dir": tmp_path})).capabilities.delivers


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (PACKAGE.replace("async def roll", "async def shell"), "two tools are called shell"),
        (PACKAGE.replace("sides: int = 6", "sides=6"), "roll"),
        ("raise RuntimeError('broken')", "cannot be loaded: broken"),
    ],
)
def test_a_bad_package_is_refused_at_start_by_name(
    installed: Callable[[str], None], tmp_path: Path, source: str, words: str
) -> None:
    installed(source)
    with pytest.raises(BadTool, match=words):
        load_toolbox(load_settings({"data_dir": tmp_path}), "offline")
