"""Each operation can be replaced by an installed package without touching the others."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.operations import load_services
from agent_session.settings import BadSettings, load_settings
from tests.support import Service, check_transcript, fresh_key

ENTRY_POINTS = """
[agent_session.operations]
terse = tests.operations.replacements:TersePrompt
echo = tests.operations.replacements:EchoModel
shouting = tests.operations.replacements:ShoutingTools
mirroring = tests.operations.replacements:mirroring
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution on sys.path, as pip would install it."""
    info = tmp_path / "site" / "replacements-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: replacements\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])


@pytest.mark.parametrize(
    ("operation", "name", "says", "expected"),
    [
        ("build_prompt", "terse", "what did I say?", "You have said nothing before this."),
        ("call_model", "echo", "hello", "hello"),
        ("run_tool", "shouting", "run echo quiet", "QUIET"),
        ("record", "mirroring", "run echo copied", "copied"),
    ],
)
async def test_one_operation_is_replaced(
    installed: None, make_service: Callable[..., Any], operation: str, name: str, says: str, expected: str
) -> None:
    service: Service = await make_service(operations={operation: name})
    async with service.worker():
        key = fresh_key()
        await service.ask(key, "remember blue")
        assert expected in (await service.ask(key, says)).text
        check_transcript(service.lines(key))
    mirror = service.settings.data_dir / "mirror.txt"
    assert mirror.exists() == (operation == "record")


def test_an_operation_that_nobody_installed_is_named(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path, "operations": {"call_model": "nowhere"}})
    with pytest.raises(BadSettings, match=r"operations\.call_model = 'nowhere'"):
        load_services(settings)
