"""One word, four places; small files, small functions, no catch-all names, no machine's own paths."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

STAGES = ("aggregate", "data", "decode", "evaluation", "grouping", "loss", "model", "second_stage", "targets")
NO_STAGE = {
    "swahr": {
        "analysis", "backbones", "cli", "draw", "inference", "kernels", "procedures", "runs", "synthetic",
        "training", "weights",
    },
    "conf": {"experiment", "hydra", "postprocess", "trainer", "training"},
}  # fmt: skip
CATCH_ALL = {"base", "common", "core", "helper", "helpers", "lib", "misc", "shared", "tools", "util", "utils"}
MAX_FILE, MAX_FUNCTION = 300, 50
MACHINE_PATH = re.compile(r"(?<![\w.~/:-])/(?:home|mnt|opt|root|tmp|Users|work)/")


def tracked(repository: Path, *suffixes: str) -> list[Path]:
    """Files that are, or are about to be, in version control."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listing.returncode:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    files = [repository / name for name in listing.stdout.splitlines()]
    return [file for file in files if file.is_file() and (not suffixes or file.suffix in suffixes)]


def folders(parent: Path) -> set[str]:
    return {path.name for path in parent.iterdir() if path.is_dir() and any(path.rglob("*.[py]*"))} - {
        "__pycache__"
    }


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """Names and lengths in lines, docstrings (which hold shapes, units and sources) left out."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                length -= (first.end_lineno or first.lineno) - first.lineno + 1
            yield f"{file}:{node.lineno} {node.name}", length


@pytest.mark.parametrize("place", ["swahr", "conf"])
def test_stage_names_are_the_same_everywhere(repository: Path, place: str) -> None:
    assert folders(repository / place) - NO_STAGE[place] == set(STAGES)


def test_every_package_has_tests_of_its_name(repository: Path) -> None:
    packages = folders(repository / "swahr") - {"conf"}
    assert {name for name in packages if not list((repository / "tests" / name).glob("test_*.py"))} == set()


def test_files_are_short(repository: Path) -> None:
    files = [
        file for file in tracked(repository, ".py") if file.parent.name != "notebooks"
    ]  # those are prose
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {str(file): length for file, length in lengths.items() if length > MAX_FILE} == {}


def test_functions_are_short(repository: Path) -> None:
    found = [pair for file in tracked(repository, ".py") for pair in functions(file)]
    assert len(found) > 100
    assert {name: length for name, length in found if length > MAX_FUNCTION} == {}


def test_no_name_is_a_catch_all(repository: Path) -> None:
    names = {
        part: file
        for file in tracked(repository)
        for part in Path(file.relative_to(repository)).with_suffix("").parts
    }
    assert {name: str(names[name]) for name in CATCH_ALL & set(names)} == {}


def test_the_package_never_prints(repository: Path) -> None:
    calls = [
        f"{file}:{node.lineno}"
        for file in (repository / "swahr").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


def test_no_file_names_a_path_of_one_machine(repository: Path) -> None:
    here = Path(__file__).name
    found = []
    for file in tracked(repository):
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a picture or an archive
        found += [
            f"{file}:{i}"
            for i, line in enumerate(lines, 1)
            if MACHINE_PATH.search(line) and file.name != here
        ]
    assert found == []
