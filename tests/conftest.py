"""Fixtures shared by all tests; shapes and types are checked at run time here, and only here."""

import os
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from jaxtyping import install_import_hook

mpl.use("Agg")
# Must run before any test module imports the package.
_hook = install_import_hook("swahr", "runtime_types.check")

REPOSITORY = Path(__file__).resolve().parents[1]


def _shared(name: str, variable: str) -> Path:
    folder = Path(os.environ.get(variable, REPOSITORY.parent / "shared" / name))
    if not folder.is_dir():
        pytest.skip(f"needs {folder}, which is not here (set {variable} to point to it)")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real COCO, CrowdPose and OCHuman excerpts; absent in most checkouts."""
    return _shared("data", "SWAHR_DATA")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Numbers computed with the official implementations; absent in most checkouts."""
    return _shared("golden", "SWAHR_GOLDEN")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(2)
