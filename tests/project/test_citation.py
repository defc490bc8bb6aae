"""The citation file is valid and agrees with pyproject.toml."""

import subprocess
import sys
import tomllib
from pathlib import Path

import yaml


def test_citation_file_is_valid(repository: Path) -> None:
    # In its own process: the validator's dependencies warn on import, and warnings are errors here.
    checked = subprocess.run(
        [sys.executable, "-c", "from cffconvert.cli.cli import cli; cli()", "--validate"],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Citation metadata are valid" in checked.stdout


def test_citation_names_this_version_and_the_papers(repository: Path) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert [(paper["authors"][0]["family-names"], paper["year"]) for paper in citation["references"]] == [
        ("Luo", 2021), ("Cheng", 2020), ("Zhang", 2020), ("Newell", 2017),
    ]  # fmt: skip
