"""Trained networks that travel with the package; each has a model card of its name beside it."""

import os
from pathlib import Path

DEFAULT = "photos_lite"
"""The network of `swahr predict` if no other is named."""

_FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """The names of the trained networks."""
    return sorted(file.stem for file in _FOLDER.glob("*.safetensors"))


def packaged(name: str) -> Path:
    """The file of a trained network."""
    return _FOLDER / f"{name}.safetensors"


def located(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a trained network by its name; anything else, also a file of such a name, is a path."""
    path = Path(name_or_path)
    return packaged(str(path)) if str(path) in names() and not path.is_file() else path
