"""How our code reads, checked: sizes, module docstrings, folder READMEs, async only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*ROOT.glob("agent_session/**/*.py"), *ROOT.glob("channels/**/*.py")])
FOLDERS = sorted({path.parent for path in MODULES} - {ROOT / "agent_session"})
LONGEST_MODULE, LONGEST_FUNCTION, README_LINES = 400, 50, 30


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_and_stays_small(path: Path) -> None:
    source = path.read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree), "a module docstring: what it is, what it must not do"
    assert len(source.splitlines()) <= LONGEST_MODULE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - (body[0].lineno if body else node.lineno) + 1
            assert lines <= LONGEST_FUNCTION, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_has_a_readme_with_a_line_for_each_file(folder: Path) -> None:
    readme = (folder / "README.md").read_text()
    assert len(readme.splitlines()) <= README_LINES
    for path in folder.glob("*.py"):
        if path.name != "__init__.py":
            assert f"`{path.name}`" in readme, path.name


def test_nothing_of_a_workplace_stands_in_the_tree() -> None:
    for path in [*MODULES, *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "Makefile", ROOT / ".ci" / "run"]:
        assert "/root/" not in path.read_text(), path
