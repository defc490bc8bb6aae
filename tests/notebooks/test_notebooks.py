"""Notebooks: the .py is the source, the .ipynb the same cells with outputs, and they run from top to bottom.

After a change to a notebook's .py::

    jupytext --to ipynb --update notebooks/NAME.py
    python tests/notebooks/execute.py notebooks/NAME.ipynb notebooks/NAME.ipynb
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
EXECUTE = Path(__file__).with_name("execute.py")
SOURCES = sorted(FOLDER.glob("*.py"))
MACHINE_PATH = re.compile(
    r"(?<![\w.~/:-])/(?:home|mnt|opt|root|tmp|Users|usr|var|work)/|[A-Z]:\\|site-packages|ipykernel_\d+"
)


def contents(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def committed(source: Path) -> nbformat.NotebookNode:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """Everything in the outputs that is text."""
    found = [output.get("text", "") for output in outputs(notebook)]
    return found + [
        str(value)
        for output in outputs(notebook)
        for kind, value in output.get("data", {}).items()
        if not kind.startswith("image/")
    ]


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What each cell prints."""
    return [
        "".join(output.text for output in cell.get("outputs", []) if output.get("name") == "stdout")
        for cell in notebook.cells
    ]


def pictures(notebook: nbformat.NotebookNode) -> list[int]:
    """The number of pictures under each cell."""
    return [
        sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        for cell in notebook.cells
    ]


def test_every_notebook_is_a_pair() -> None:
    assert SOURCES
    assert [path.with_suffix(".ipynb") for path in SOURCES] == sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_both_forms_have_the_same_cells(source: Path) -> None:
    assert contents(jupytext.read(source)) == contents(committed(source)), f"out of date: see {__file__}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_committed_outputs_are_of_one_clean_run(source: Path) -> None:
    notebook = committed(source)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), (
        f"not one run: see {__file__}"
    )
    assert sum(pictures(notebook)) > 0
    assert {output.output_type for output in outputs(notebook)} <= {"display_data", "stream"}
    assert [output for output in outputs(notebook) if output.get("name") == "stderr"] == []
    assert [text for text in texts(notebook) if MACHINE_PATH.search(text)] == []


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_runs_anywhere(source: Path, tmp_path: Path) -> None:
    elsewhere, executed = tmp_path / "elsewhere", tmp_path / "executed.ipynb"
    elsewhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, str(EXECUTE), str(source.with_suffix(".ipynb")), str(executed)]
    run = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    result = nbformat.read(executed, as_version=4)
    assert pictures(result) == pictures(committed(source)), f"other pictures than committed: see {__file__}"
    assert printed(result) == printed(committed(source)), f"other results than committed: see {__file__}"
    assert [output.text for output in outputs(result) if output.get("name") == "stderr"] == []
    assert list(elsewhere.iterdir()) == []  # neither needs files nor leaves any
