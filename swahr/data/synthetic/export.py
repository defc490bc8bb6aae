"""Write rendered crowds to disk as an ordinary COCO-format dataset."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2

from swahr.data.synthetic.records import Style, dataset_records
from swahr.data.synthetic.scene import Scene
from swahr.data.synthetic.source import SyntheticSource

_JPEG_QUALITY = 95


def render_dataset(
    source: SyntheticSource,
    folder: str | Path,
    *,
    style: Style = "coco",
    progress: Callable[[], object] | None = None,
) -> Path:
    """Write a source's ``len()`` images to ``folder/images`` and their records to ``folder/annotations``.

    ``progress`` is called after each image. The annotation file is written last
    and in one piece, so that its presence says that the dataset is complete.

    Returns:
        The annotation file, ``folder/annotations/person_keypoints.json``.

    Raises:
        OSError: the folder cannot be written.
    """
    images, annotations = Path(folder) / "images", Path(folder) / "annotations"
    images.mkdir(parents=True, exist_ok=True)
    annotations.mkdir(parents=True, exist_ok=True)

    def written() -> Iterator[tuple[str, Scene]]:
        for name, scene in source.scenes():
            _write_image(images / name, scene)
            yield name, scene
            if progress is not None:
                progress()

    path = annotations / "person_keypoints.json"
    _write_json(path, dataset_records(written(), source.skeleton, style))
    return path


def _write_image(path: Path, scene: Scene) -> None:
    bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
        raise OSError(f"cannot write the image {path}; check the folder's permissions and free space")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write to a temporary neighbour and rename it, so that nobody ever reads half a file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
