"""Images named on the command line: files, folders and globs."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def inputs_as_override(arguments: Iterable[str]) -> list[str]:
    """Gather files (arguments without ``=``, or that exist) into one ``inputs=[…]``, as Hydra wants them."""
    arguments = list(arguments)
    files = [a for a in arguments if not a.startswith("-") and ("=" not in a or Path(a).exists())]
    if not files:
        return arguments
    quoted = ",".join("'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'" for name in files)
    return [argument for argument in arguments if argument not in files] + [f"inputs=[{quoted}]"]


def expand_inputs(inputs: str | Iterable[str]) -> list[Path]:
    """The image files that some files, folders and globs stand for, in order, each once.

    Raises:
        FileNotFoundError: one of them stands for none.
    """
    files: dict[Path, None] = {}
    for name in [inputs] if isinstance(inputs, str) else inputs:
        path = Path(name)
        if path.is_dir():
            found = [file for file in sorted(path.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES]
        else:
            found = [path] if path.is_file() else _matches(name)
        if not found:
            raise FileNotFoundError(
                f"{name}: expected an image, a folder with images ({', '.join(sorted(IMAGE_SUFFIXES))}) or a "
                "glob that matches some; found none"
            )
        files |= dict.fromkeys(found)
    return list(files)


def _matches(pattern: str) -> list[Path]:
    return [Path(file) for file in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - any anchor
