"""Image files, folders and globs on the command line."""

import glob
import itertools
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    {
        ".avif", ".bmp", ".dib", ".exr", ".gif", ".hdr", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe",
        ".jpeg", ".jpg", ".jxl", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".ras", ".sr", ".tga",
        ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
"""Endings of image files in folders, of formats that OpenCV may not decode, too."""

_LONGEST_NAME = 240  # bytes of the 255 that a file system allows, so that a number and an ending fit

_log = logging.getLogger(__name__)


def inputs_as_override(arguments: Iterable[str]) -> list[str]:
    """Replace files (arguments that exist or have no ``=``) with one override ``inputs=[…]``."""
    arguments = list(arguments)
    files = [argument for argument in arguments if "=" not in argument or _exists(argument)]
    if not files:
        return arguments
    quoted = ",".join("'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'" for name in files)
    return [argument for argument in arguments if argument not in files] + [f"inputs=[{quoted}]"]


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # too long for a file's name
        return False


def expand_inputs(inputs: str | Iterable[str]) -> list[Path]:
    """The image files among files, folders and globs, in order and without duplicates.

    Of a folder, and of a glob that ends in ``*``, files with an image's ending are taken. What a folder
    contains besides is logged.

    Raises:
        FileNotFoundError: an input matches no image.
    """
    files: dict[Path, None] = {}
    for name in [inputs] if isinstance(inputs, str) else inputs:
        path = Path(name)
        if path.is_dir():
            found, passed_over = _images_in(path)
        else:
            matches = glob.glob(name, recursive=True)  # noqa: PTH207 - patterns may be absolute
            found = [path] if path.is_file() else [Path(file) for file in sorted(matches)]
            found = [file for file in found if file.is_file()]
            if name.endswith("*"):
                found = [file for file in found if _is_image(file)]
            passed_over = ""
        if not found:
            raise FileNotFoundError(
                f"{name}: expected an image, a folder with images ({', '.join(sorted(IMAGE_SUFFIXES))}) or a "
                f"glob, found no image{passed_over and f', but {passed_over}'}; check the path"
            )
        if passed_over:
            _log.warning("%s: passed over %s", path, passed_over)
        files |= dict.fromkeys(found)
    return list(files)


def _images_in(folder: Path) -> tuple[list[Path], str]:
    """The images in a folder, and a description of what else it contains."""
    entries = sorted(folder.iterdir())
    subfolders = [entry for entry in entries if entry.is_dir()]
    images = [entry for entry in entries if _is_image(entry) and entry not in subfolders]
    others = len(entries) - len(images) - len(subfolders)
    parts = []
    if subfolders:
        names = ", ".join(entry.name for entry in subfolders[:3]) + (", …" if len(subfolders) > 3 else "")
        parts.append(f"{len(subfolders)} subfolders ({names}; '{folder / '**'}' includes their images)")
    if others:
        parts.append(f"{others} files without an image's ending")
    return images, " and ".join(parts)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def picture_names(files: Sequence[Path]) -> dict[Path, str]:
    """A name without ending for the picture of each file, short enough and different from the others.

    Numbers distinguish files of the same name in several folders, also where upper and lower case are one.
    """
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        stem = file.stem
        if len(os.fsencode(stem)) > _LONGEST_NAME:
            stem = os.fsencode(stem)[:_LONGEST_NAME].decode(errors="ignore")
        candidates = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        names[file] = next(name for name in candidates if name.casefold() not in taken)
        taken.add(names[file].casefold())
    return names
