"""The golden numbers that travel with the project are those of the whole collection."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def regenerate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("regenerate_golden", FOLDER / "regenerate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_writes_what_is_committed(regenerate, golden_dir: Path, golden_json, tmp_path: Path):
    regenerate.main(golden_dir, tmp_path)
    committed = {path.name for path in FOLDER.iterdir() if path.suffix in (".npz", ".gz")}
    assert {path.name for path in tmp_path.iterdir()} == committed
    for name in regenerate.ARRAYS:
        with (
            np.load(FOLDER / name) as ours,
            np.load(tmp_path / name) as fresh,
            np.load(golden_dir / name) as whole,
        ):
            assert ours.files == fresh.files
            for key in ours.files:
                for other in (fresh[key], whole[key]):
                    assert ours[key].dtype == other.dtype
                    np.testing.assert_array_equal(ours[key], other)
    for name in committed - set(regenerate.ARRAYS):
        file = name.removesuffix(".gz")
        assert golden_json(file) == json.loads((golden_dir / file).read_text())


def test_they_are_few():
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 3_000_000
