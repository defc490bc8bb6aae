"""How much there is to read and to import; the limits are the project's goals, not measurements."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SWAHR = ROOT / "swahr"

EVENING = (  # what one reads to understand the method
    "skeleton.py", "structures.py", "geometry.py", "map_kinds.py",
    "targets", "model", "loss", "aggregate", "grouping", "decode", "training",
)  # fmt: skip
MARK = "Published compatibility: "
"""Begins the docstring of a module that serves published weights and metrics only."""
COMPATIBILITY = {"grouping/official.py", "model/published.py"}
EVENING_LINES = 3300
OUTSIDE = {"synthetic", "second_stage", "procedures"}
ALL_LINES = 9000 + 2400 + 1700 + 1200 + 750
"""Without the renderer, the second stage and its training. Checks of data, lost work, fine-tuning and a
backbone came later (2400), then what training on photographs needs, tables and the analysis of errors (1700),
the commands, data and checkpoints of the second stage (1200), and its measures, conditions and
deformations (750)."""
IMPORTED_MODULES = 45
NOT_IMPORTED = ("lightning", "matplotlib", "numba", "swahr.synthetic", "swahr.training", "swahr.data")


def files(*places: str) -> Iterator[Path]:
    """Python files of the package, or of some parts of it."""
    for place in places or ("",):
        path = SWAHR / place
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def name(file: Path) -> str:
    return file.relative_to(SWAHR).as_posix()


def is_outside(file: Path) -> bool:
    """Whether a file belongs to the renderer of crowds, or to the second stage and its training."""
    return file.relative_to(SWAHR).parts[0] in OUTSIDE


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def test_the_method_is_read_in_an_evening() -> None:
    evening = {name(file): file for file in files(*EVENING)}
    assert evening.keys() >= COMPATIBILITY
    total = sum(len(lines(file)) for place, file in evening.items() if place not in COMPATIBILITY)
    assert total <= EVENING_LINES, f"{total} lines"


def test_modules_for_published_weights_say_so_in_their_first_line() -> None:
    marked = {name(file) for file in files() if lines(file)[0].startswith(f'"""{MARK}')}
    assert marked == COMPATIBILITY


def test_the_package_is_small() -> None:
    total = sum(len(lines(file)) for file in files() if not is_outside(file))
    assert total <= ALL_LINES, f"{total} lines"


@pytest.fixture(scope="module")
def imported() -> list[str]:
    """The modules that a fresh process has after `from swahr import Predictor`."""
    script = "import json, sys\nfrom swahr import Predictor\nprint(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules: list[str] = json.loads(done.stdout)
    return modules


def test_predicting_imports_little_of_the_package(imported: list[str]) -> None:
    own = [module for module in imported if module.partition(".")[0] == "swahr"]
    assert "swahr.predictor" in own
    assert len(own) <= IMPORTED_MODULES, own


def test_predicting_imports_nothing_that_only_training_and_drawing_need(imported: list[str]) -> None:
    assert set(imported).isdisjoint(NOT_IMPORTED)
