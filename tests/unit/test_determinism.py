"""I8: workflow code is deterministic. The sandbox would refuse clocks, randomness and I/O at run time; a worker
passes our modules by it, to save 200 KB a session, so here they are refused by reading the code. Replay runs the
same code inside the whole sandbox."""

import ast
from pathlib import Path

import pytest

from agent_session.workflows.session import PASSED_THROUGH

ROOT = Path(__file__).parents[2]
CODE = sorted([*ROOT.glob("agent_session/workflows/*.py"), *ROOT.glob("agent_session/domain/*.py")])
#: standard modules that workflow code may use; datetime for `timedelta` alone
HARMLESS = {
    "asyncio", "base64", "bisect", "collections", "collections.abc", "dataclasses", "enum", "fnmatch", "functools",
    "hashlib", "hmac", "itertools", "json", "math", "re", "shlex", "string", "types", "typing", "unicodedata", "zlib",
}  # fmt: skip
OURS = ("agent_session.domain", "agent_session.workflows", "temporalio", "orjson")
FORBIDDEN_NAMES = {"open", "input", "exec", "eval", "print", "__import__", "id", "hash", "globals"}
UNSTEADY_ASYNCIO = {"wait", "as_completed", "to_thread", "create_subprocess_exec", "open_connection", "get_event_loop"}


def imported(tree: ast.AST) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(one.name, []) for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", [one.name for one in node.names]))
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_clock_no_randomness_no_io_in_workflow_code(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for module, names in imported(tree):
        if module == "datetime":
            assert set(names) <= {"timedelta"}, f"{module}: {names}"
        else:
            assert module in HARMLESS or module.startswith(OURS), module
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & FORBIDDEN_NAMES
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "asyncio"
    }
    assert not used & UNSTEADY_ASYNCIO, "sets have no order: use workflow.wait"


@pytest.mark.parametrize("path", CODE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_module_holds_state_that_sessions_would_share(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        assert not isinstance(value, ast.List | ast.ListComp | ast.SetComp), ast.unparse(node)
    assert not any(isinstance(node, ast.Global) for node in ast.walk(tree))


def test_every_workflow_module_is_passed_by_the_sandbox_but_those_with_the_definitions() -> None:
    modules = {f"agent_session.workflows.{path.stem}" for path in ROOT.glob("agent_session/workflows/*.py")}
    loaded_anew = {f"agent_session.workflows.{part}" for part in ("session", "scheduled", "__init__")}
    assert set(PASSED_THROUGH) == modules - loaded_anew | {"agent_session.domain"}
