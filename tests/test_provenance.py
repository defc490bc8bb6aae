"""Stamps name every file, and can be made where swahr is not installed."""

import hashlib
from pathlib import Path

import pytest

from swahr import provenance as module
from swahr.provenance import provenance


def test_files_of_one_name_are_both_stamped(tmp_path: Path) -> None:
    files = [tmp_path / folder / "best.safetensors" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text(file.parent.name)
    first, second = (hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b"))
    found = provenance(seed=0, files=[*files, files[0]])["sha256"]
    assert found == {"best.safetensors": first, "best.safetensors (2)": second}


def test_a_copy_that_is_not_installed_is_stamped(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise module.PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    stamp = provenance(seed=None)
    assert stamp["swahr"] is None
    assert stamp["libraries"]["opencv"]


def test_the_commit_of_a_copy_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "swahr" / "provenance.py"))
    monkeypatch.setenv("SWAHR_COMMIT", "abc")
    assert provenance(seed=None)["commit"] == "abc"
