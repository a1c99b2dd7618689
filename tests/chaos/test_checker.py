"""The checker can fail: each planted violation is found, in the evidence of a real run that shows none."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.chaos.checker import check
from tests.chaos.driver import Shape, run_plan
from tests.chaos.plan import make_plan
from tests.chaos.plant import FOUND_AS, PLANTS, plant
from tests.chaos.report import summary, table, words_of

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
async def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with each kind of fault."""
    folder = tmp_path_factory.mktemp("chaos") / "run"
    folder.mkdir()
    await asyncio.wait_for(run_plan(make_plan(7, 40, 4, 3, 15), Shape(workers=2), folder, print), 200)
    return folder


def test_a_short_run_shows_no_violation(evidence: Path) -> None:
    seen, verdict = check(evidence)
    known = summary(seen, verdict)
    print(table(known))
    assert not verdict.violations, words_of(verdict)
    assert known["messages"] == 44
    assert known["processes_killed"] >= 3


@pytest.mark.parametrize("what", sorted(PLANTS))
def test_a_planted_violation_is_found(evidence: Path, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "tampered"
    shutil.copytree(evidence, folder)
    plant(folder, what)
    _, verdict = check(folder)
    assert FOUND_AS[what] in {one.kind for one in verdict.violations}


def test_a_plan_is_a_function_of_its_seed() -> None:
    assert make_plan(3, 100, 5, 10, 60) == make_plan(3, 100, 5, 10, 60)
    assert make_plan(3, 100, 5, 10, 60) != make_plan(4, 100, 5, 10, 60)
