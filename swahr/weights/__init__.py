"""Trained networks that travel with the package; each has a model card of its name beside it."""

import os
from pathlib import Path

DEFAULT = "photos_lite"
"""The network of `swahr predict` if no other is named."""

_FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """The names of the trained networks."""
    return sorted(file.stem for file in _FOLDER.glob("*.safetensors"))


def located(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a trained network by its name; other values are paths already."""
    path = Path(name_or_path)
    return _FOLDER / f"{path}.safetensors" if str(path) in names() and not path.exists() else path
