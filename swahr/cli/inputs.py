"""Image files, folders and globs on the command line."""

import glob
from collections.abc import Iterable
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def inputs_as_override(arguments: Iterable[str]) -> list[str]:
    """Replace files (arguments that exist or have no ``=``) with one override ``inputs=[…]``."""
    arguments = list(arguments)
    files = [argument for argument in arguments if "=" not in argument or Path(argument).exists()]
    if not files:
        return arguments
    quoted = ",".join("'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'" for name in files)
    return [argument for argument in arguments if argument not in files] + [f"inputs=[{quoted}]"]


def expand_inputs(inputs: str | Iterable[str]) -> list[Path]:
    """The image files among files, folders and globs, in order and without duplicates.

    Raises:
        FileNotFoundError: an input matches no image.
    """
    files: dict[Path, None] = {}
    for name in [inputs] if isinstance(inputs, str) else inputs:
        path = Path(name)
        if path.is_dir():
            found = [file for file in sorted(path.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES]
        else:
            matches = glob.glob(name, recursive=True)  # noqa: PTH207 - patterns may be absolute
            found = [path] if path.is_file() else [Path(file) for file in sorted(matches)]
        if not found:
            raise FileNotFoundError(
                f"{name}: expected an image, a folder with images ({', '.join(sorted(IMAGE_SUFFIXES))}) or a "
                "glob, found no image; check the path"
            )
        files |= dict.fromkeys(found)
    return list(files)
