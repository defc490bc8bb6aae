"""Descriptions to spoil, and files that carry them; nothing in any of these files may ever run."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from swahr import Predictor, load_checkpoint
from swahr.migration import FORMAT

HERE = Path(__file__).resolve().parent
OLD, PRESENT = HERE / "format_1.safetensors", HERE / f"format_{FORMAT}.safetensors"


def description_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["swahr"])


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def command() -> dict[str, Any]:
    """A node that would leave a witness behind."""
    return {"_target_": "os.system", "command": "touch $WITNESS"}


def refused(path: Path, match: str = "refused") -> None:
    """Whoever reads the file gets a ValueError."""
    with pytest.raises(ValueError, match=match):
        load_checkpoint(path)
    with pytest.raises(ValueError, match=match):
        Predictor.from_checkpoint(path)


@pytest.fixture
def description() -> dict[str, Any]:
    """That of a file of format 1."""
    return description_of(OLD)


@pytest.fixture
def present() -> dict[str, Any]:
    """That of a file of the present format."""
    return description_of(PRESENT)


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    """Those of the file of format 1."""
    return weights_of(OLD)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Writes a safetensors file with a description, values or text, and the weights of its format."""

    def write(values: Any) -> Path:
        path = tmp_path / "hostile.safetensors"
        text = values if isinstance(values, str) else json.dumps(values)
        is_present = f'"format": {FORMAT}' in text
        save_file(weights_of(PRESENT if is_present else OLD), path, metadata={"swahr": text})
        return path

    return write


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a hostile file might run would leave a file behind."""
    path = tmp_path / "witness"
    monkeypatch.setenv("WITNESS", str(path))
    yield
    assert not path.exists()
