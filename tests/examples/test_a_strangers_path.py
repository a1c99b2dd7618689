"""What CONTRIBUTING tells a stranger is so: the file and its test, put where it says, work."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import COMMAND, clean_environment, wait_until

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
#: our example, the module that it becomes, the test that it becomes
PLACES = {
    "tool/dice.py": "agent_session/tools/dice.py",
    "tool/test_dice.py": "tests/tools/test_dice.py",
    "channel/mailbox.py": "channels/mailbox.py",
    "channel/test_mailbox.py": "tests/channels/test_mailbox.py",
    "model/echo.py": "agent_session/models/echo.py",
    "model/test_echo.py": "tests/models/test_echo.py",
}


def as_placed(example: str) -> str:
    """Its text with the imports that it has in its place."""
    text = (HERE / example).read_text()
    for ours, place in PLACES.items():
        module, placed = f"tests.examples.{ours[:-3].replace('/', '.')}", place[:-3].replace("/", ".")
        text = text.replace(module, placed)
        text = text.replace(f"from {module.rpartition('.')[0]} import", f"from {placed.rpartition('.')[0]} import")
    return text


def test_the_code_in_contributing_is_the_example_itself() -> None:
    shown = dict(re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```\n", CONTRIBUTING, re.DOTALL))
    assert shown == {PLACES[one]: as_placed(one) for one in ("tool/dice.py", "tool/test_dice.py")}


def test_every_example_is_named_in_contributing_and_every_path_there_exists() -> None:
    for example in PLACES:
        if "test_" not in example:
            assert f"tests/examples/{example}" in CONTRIBUTING
    for path in re.findall(r"`((?:tests|docs|scripts)/[\w/]+\.(?:py|md))`", CONTRIBUTING):
        assert path in PLACES.values() or path.endswith("_x.py") or (ROOT / path).exists(), path


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the examples in their places."""
    copy = tmp_path_factory.mktemp("stranger") / "tree"
    skipped = shutil.ignore_patterns("__pycache__", "histories", "examples")
    for name in ("agent_session", "channels", "tests", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=skipped)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for example, place in PLACES.items():
        (copy / place).parent.mkdir(exist_ok=True)
        (copy / place).write_text(as_placed(example))
    (copy / "tests" / "models" / "__init__.py").touch()
    return copy


@pytest.fixture
def environment(tree: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    yield clean_environment(tmp_path / "data", PYTHONPATH=str(tree))
    service = tmp_path / "data" / "service.json"
    if service.exists():  # it would end by itself in ten seconds
        os.kill(json.loads(service.read_text())["pid"], signal.SIGTERM)
        wait_until(lambda: not service.exists())


def test_their_tests_pass_there(tree: Path, environment: dict[str, str]) -> None:
    tests = [place for place in PLACES.values() if "test_" in place]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tree, env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


def test_the_tool_and_the_channel_are_there_without_a_list_to_edit(
    tree: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    def run(*arguments: str, input: str = "") -> str:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=tree, env=environment, input=input, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("chat", input='call roll {"sides": 1}\n') == "1\n"
    run("send", "main", "remember ada", "--reply-to", "mailbox:ada")
    letters = tmp_path / "data" / "channels" / "mailbox" / "ada"
    (letter,) = wait_until(lambda: letters.is_dir() and list(letters.glob("*.txt")))
    assert letter.read_text() == "I will remember: ada"


def test_the_model_answers_when_a_setting_names_it(tree: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*COMMAND, "run", "good morning"],
        cwd=tree, env={**environment, "AGENT_SESSION_MODEL__NAME": "echo"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "good morning\n"), done.stderr
