"""Fixtures shared by all tests; shapes and types are checked at run time here, and only here."""

import gzip
import io
import json
import os
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from jaxtyping import config, install_import_hook

mpl.use("Agg")
# Its log handler keeps the stderr it finds when imported, and closes it; let that not be the one of pytest.
with redirect_stderr(io.StringIO()):
    import absl.logging  # noqa: F401 - for what importing does
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


class GoldenArrays:
    """The arrays of a golden file: those that travel with the project, else those beside it, else a skip."""

    def __init__(self, file: str) -> None:
        self.file = file
        committed = REPOSITORY / "tests" / "golden" / file
        self.arrays = dict(np.load(committed)) if committed.is_file() else {}

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self.arrays:
            with np.load(_shared("golden", "SWAHR_GOLDEN") / self.file) as arrays:
                self.arrays |= dict(arrays)
        return self.arrays[key]


@pytest.fixture(scope="session")
def golden_arrays() -> Callable[[str], GoldenArrays]:
    """The arrays of a golden file, by its name."""
    return GoldenArrays


@pytest.fixture(scope="session")
def golden_json() -> Callable[[str], Any]:
    """The content of a golden JSON file, by its name; found like arrays."""

    def read(file: str) -> Any:
        committed = REPOSITORY / "tests" / "golden" / f"{file}.gz"
        if committed.is_file():
            return json.loads(gzip.decompress(committed.read_bytes()))
        return json.loads((_shared("golden", "SWAHR_GOLDEN") / file).read_text())

    return read


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``gpu`` where there is none."""
    if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """No checks of shapes and types: sizes are tensors while a network is traced, and values may be wrong."""
    monkeypatch.setattr(config, "jaxtyping_disable", True)
