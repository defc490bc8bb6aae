"""How much there is to read and to import; the limits are the project's goals, not measurements."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SWAHR = ROOT / "swahr"

EVENING = (  # what one reads to understand the method
    "keypoint_names.py", "skeleton.py", "structures.py", "geometry.py", "map_kinds.py",
    "targets", "model", "loss", "aggregate", "grouping", "decode", "training",
)  # fmt: skip
MARK = "Published compatibility: "
"""Begins the docstring of a module that serves published weights and metrics only."""
COMPATIBILITY = {"grouping/official.py", "model/published.py"}
ALTERNATIVES = {
    "model/efficientnet.py", "model/transfer.py", "training/initial_weights.py", "training/person.py",
}  # fmt: skip
"""Another backbone, fine-tuning to other keypoints, and single-person networks: not the method itself."""
EVENING_LINES = 3300
ALL_LINES = 9000 + 2400 + 1700
"""Without the renderer. Checks of data, lost work, fine-tuning and a backbone came later (2400), then what
training on photographs needs, tables, and the analysis of errors (1700)."""
IMPORTED_MODULES = 45
NOT_IMPORTED = ("lightning", "matplotlib", "numba", "swahr.synthetic", "swahr.training", "swahr.data")


def files(*places: str) -> Iterator[Path]:
    """Python files of the package, or of some parts of it."""
    for place in places or ("",):
        path = SWAHR / place
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def name(file: Path) -> str:
    return file.relative_to(SWAHR).as_posix()


def is_rendered(file: Path) -> bool:
    """Whether a file belongs to the renderer of synthetic crowds."""
    return file.relative_to(SWAHR).parts[0] == "synthetic"


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def lines_of_code(file: Path) -> int:
    """Lines without docstrings."""
    docstrings = [
        node.body[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node) is not None
    ]
    return len(lines(file)) - sum((doc.end_lineno or doc.lineno) - doc.lineno + 1 for doc in docstrings)


def test_the_method_is_read_in_an_evening() -> None:
    evening = {name(file): file for file in files(*EVENING)}
    assert evening.keys() >= COMPATIBILITY | ALTERNATIVES
    method = [file for place, file in evening.items() if place not in COMPATIBILITY | ALTERNATIVES]
    code, raw = (sum(map(count, method)) for count in (lines_of_code, lambda file: len(lines(file))))
    assert code <= EVENING_LINES, f"{code} lines without docstrings, {raw} with them"


def test_modules_for_published_weights_say_so_in_their_first_line() -> None:
    marked = {name(file) for file in files() if lines(file)[0].startswith(f'"""{MARK}')}
    assert marked == COMPATIBILITY


def test_the_package_is_small() -> None:
    total = sum(len(lines(file)) for file in files() if not is_rendered(file))
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
