"""Annotated photographs: COCO, CrowdPose and your own data in COCO's keypoint format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from swahr.data.coco_file import ImageRecord, PersonRecord, read_coco_file
from swahr.data.images import read_image
from swahr.data.masks import region_mask
from swahr.geometry import POINT_FROM_INDEX
from swahr.skeleton import Skeleton
from swahr.structures import Annotations, LabelledImage


class CocoSource:
    """The images of one annotation file.

    Crowd regions and people without labelled keypoints are not taught: their segmentation (or, without one,
    their box) is False in ``valid``. The official code masks nothing in CrowdPose; there this affects only
    the boxes of people without any labelled keypoint.

    Args:
        annotations: COCO-format file, ``.json`` or ``.json.gz``.
        images: the folder that the file's ``file_name`` entries (which may name subfolders) start from.
        skeleton: what the keypoints must be; by default the file's category says it.
        image_ids: use these images only, in this order; by default all, in the file's order.
        min_people: use images with at least so many annotations: people, labelled or not, and crowd regions.
            1 gives the training images of the official code.
        limit: use the first so many images only.

    Raises:
        FileNotFoundError: there is no such annotation file.
        ValueError: the file is malformed, has another skeleton, or no image is left.
    """

    unbounded = False

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        skeleton: Skeleton | None = None,
        image_ids: Sequence[int] | None = None,
        min_people: int = 0,
        limit: int | None = None,
    ) -> None:
        self._path, self._folder = Path(annotations), Path(images)
        if limit is not None and limit < 1:
            raise ValueError(f"expected limit to be at least 1 (or none at all), got {limit}")
        file = read_coco_file(self._path, skeleton)
        self.skeleton = file.skeleton
        self._category = file.category
        chosen = _choose(self._path, file.images, image_ids)
        self._images = [image for image in chosen if len(image.people) >= min_people][:limit]
        if not self._images:
            raise ValueError(
                f"{self._path}: none of {len(chosen)} images has at least min_people={min_people} "
                f"annotations; lower min_people"
            )

    def __len__(self) -> int:
        """The number of images."""
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledImage:
        """Read one image.

        Raises:
            FileNotFoundError: the image file does not exist.
            ValueError: the file is damaged, or its size is not the annotated one.
        """
        record = self._images[index]
        return LabelledImage(
            image=self._read(index),
            annotations=_annotations(record, self.skeleton.num_keypoints),
            valid=self._valid(record),
            image_id=record.image_id,
        )

    def ground_truth(self) -> dict[str, Any]:
        """A COCO-format dictionary of these images, for evaluation.

        Missing counts of keypoints are filled in (a file's own stay: the official tools score by them),
        missing areas are 0.53 of the box, and segmentations are left out (no keypoint protocol reads them).
        """
        return {
            "info": {"description": str(self._path.name)},
            "images": [dict(image.entry) for image in self._images],
            "annotations": [_annotation_entry(person) for image in self._images for person in image.people],
            "categories": [dict(self._category)],
        }

    def describe(self, index: int) -> str:
        """The image's file."""
        return str(self._folder / self._images[index].entry["file_name"])

    def _read(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """The pixels in the annotator's orientation.

        Viewers turn a photograph by its EXIF entry and some tools do not, so the annotated size decides;
        where both fit, the upright image is taken.
        """
        path, size = self.describe(index), self._images[index].size
        image = read_image(path)
        if image.shape[:2] == size:
            return image
        stored = read_image(path, apply_orientation=False)
        if stored.shape[:2] != size:
            raise ValueError(
                f"{path}: expected the size (h, w) = {size} that {self._path} annotates for image "
                f"{self._images[index].image_id}, got {image.shape[:2]}; use the original image, or correct "
                f"the file's height and width"
            )
        return stored

    def _valid(self, record: ImageRecord) -> Bool[np.ndarray, "H W"]:
        valid = np.ones(record.size, dtype=bool)
        for person in record.people:
            if not person.is_taught:
                try:
                    valid &= ~region_mask(person.segmentation, person.entry["bbox"], record.size)
                except (ValueError, TypeError, KeyError, RuntimeError) as error:
                    raise ValueError(
                        f"{self._path}: annotation {person.entry['id']!r} has a segmentation that cannot be "
                        f"drawn ({error}); correct or remove it"
                    ) from error
        return valid


def _choose(
    path: Path, images: Sequence[ImageRecord], image_ids: Sequence[int] | None
) -> Sequence[ImageRecord]:
    if image_ids is None:
        return images
    by_id = {image.image_id: image for image in images}
    if unknown := [image_id for image_id in image_ids if image_id not in by_id]:
        raise ValueError(
            f"{path}: image_ids asks for {unknown[:5]}, which are not among its {len(by_id)} images; "
            f"correct them"
        )
    return [by_id[image_id] for image_id in image_ids]


def _annotations(record: ImageRecord, num_keypoints: int) -> Annotations:
    people = [person for person in record.people if person.is_taught]
    raw = np.array([person.keypoints for person in people], dtype=np.float64).reshape(-1, num_keypoints, 3)
    return Annotations(
        keypoints=POINT_FROM_INDEX.apply(raw[..., :2]),
        visibility=raw[..., 2].astype(np.int64),
        area=np.array([person.area for person in people], dtype=np.float64),
    )


def _annotation_entry(person: PersonRecord) -> dict[str, Any]:
    return {
        "iscrowd": 0,
        # The official tools ignore people whose file says 0, though some of CrowdPose's have keypoints:
        # a file's own count therefore stays where it is given.
        "num_keypoints": person.num_labelled,
        **person.entry,
        "keypoints": person.keypoints.ravel().tolist(),
        "area": person.area,
    }
