"""COCO, CrowdPose and other data sets in COCO's keypoint format."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from jaxtyping import Bool, UInt8

from swahr.data.coco_file import CocoAnnotation, CocoImage, read_coco_file
from swahr.data.plausibility import Findings, examine
from swahr.data.regions import region_mask
from swahr.geometry import POINT_FROM_INDEX
from swahr.images import read_image
from swahr.skeleton import Skeleton
from swahr.structures import Annotations, LabelledImage

_OTHER_SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda name: name.replace("\\", "/"),
    unquote,
    lambda name: re.split("[?#]", name)[0].rsplit("/", 1)[-1] if "://" in name else name,
    lambda name: unicodedata.normalize("NFC", name),
    lambda name: unicodedata.normalize("NFD", name),
)


class CocoSource:
    """The images of one annotation file.

    Crowd regions and people without labelled keypoints are ignored in training: their segmentation, or else
    their box, is False in ``valid``. On CrowdPose the official code masks nothing; here, the boxes of people
    without labelled keypoints are masked there, too.

    Args:
        annotations: COCO-format file, ``.json`` or ``.json.gz``.
        images: the folder to which ``file_name`` entries, which may contain subfolders, are relative. If
            there is no such file, other spellings of the name are tried: slashes for backslashes, "%20" and
            the like decoded, the last part of a URL, composed and decomposed accents.
        skeleton: the expected keypoints; None for those of the file's category.
        image_ids: the images to use, in this order; None for all, in the file's order.
        min_people: minimum number of annotations per image, labelled or not, crowd regions included; 1
            selects the training images of the official code.
        limit: maximum number of images, the first ones; None for all.
        insist: whether to use annotations whose ``findings`` have errors.

    Attributes:
        findings: what is implausible in the annotations of the chosen images.

    Raises:
        FileNotFoundError: the annotation file does not exist.
        ValueError: the file is malformed, has another skeleton, no image is selected, or one twice; or
            annotations are so implausible that training or metrics would be wrong, and ``insist`` is False.
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
        *,
        insist: bool = False,
    ) -> None:
        self._path, self._folder = Path(annotations), Path(images)
        if limit is not None and limit < 1:
            raise ValueError(f"expected limit to be at least 1 (or None for all images), got {limit}")
        file = read_coco_file(self._path, skeleton)
        self.skeleton = file.skeleton
        self._category = file.category
        self._paths: dict[int, str] = {}  # by index, of images whose file was looked up
        chosen = _choose(self._path, file.images, image_ids)
        self._images = [image for image in chosen if len(image.annotations) >= min_people][:limit]
        if not self._images:
            raise ValueError(
                f"{self._path}: none of {len(chosen)} images has at least min_people={min_people} "
                "annotations; lower min_people"
            )
        self.findings = examine(self._images, self.skeleton, source=self._path.name)
        if self.findings.errors and not insist:
            raise ValueError(_refusal(self._path, self.findings))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledImage:
        """Read one image.

        Raises:
            FileNotFoundError: the image file does not exist.
            ValueError: the file is damaged, or its size is not as annotated.
        """
        image = self._images[index]
        people = _labelled_people(image, self.skeleton.num_keypoints)
        return LabelledImage(self._read(index), people, self._valid(image), image.image_id)

    def ground_truth(self) -> dict[str, Any]:
        """A COCO-format mapping of these images, for evaluation.

        Missing ``num_keypoints`` are counted and missing areas are 0.53 times the box. Segmentations are left
        out, because no keypoint protocol reads them.
        """
        people = [person for image in self._images for person in image.annotations]
        return {
            "info": {"description": self._path.name},
            "images": [dict(image.entry) for image in self._images],
            "annotations": [_ground_truth_entry(person) for person in people],
            "categories": [dict(self._category)],
        }

    def describe(self, index: int) -> str:
        """The path of image ``index``."""
        if index not in self._paths:
            names = _spellings(self._images[index].entry["file_name"])
            paths = [self._folder / name for name in names]
            self._paths[index] = str(next(filter(_exists, paths), paths[0]))
        return self._paths[index]

    def _read(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Read the pixels in the orientation in which they were annotated.

        Only some annotation tools apply the EXIF orientation, so we choose by the annotated size, and apply
        it if both sizes match.
        """
        image_id, path, size = self._images[index].image_id, self.describe(index), self._images[index].size
        if not _exists(Path(path)):
            names = _spellings(self._images[index].entry["file_name"])
            raise FileNotFoundError(
                f"{path}: expected an image file for image {image_id} of {self._path}, but "
                f"{self._folder} has none of {names}; check the images folder and the file name"
            )
        image = read_image(path)
        if image.shape[:2] == size:
            return image
        stored = read_image(path, apply_orientation=False)
        if stored.shape[:2] != size:
            raise ValueError(
                f"{path}: expected the size (h, w) = {size} that {self._path} has for image {image_id}, "
                f"got {image.shape[:2]}; use the original image, or correct "
                "the file's height and width"
            )
        return stored

    def _valid(self, image: CocoImage) -> Bool[np.ndarray, "H W"]:
        valid = np.ones(image.size, dtype=bool)
        for person in image.annotations:
            if not person.is_labelled:
                valid &= ~region_mask(person.segmentation, person.entry["bbox"], image.size)
        return valid


def _refusal(path: Path, findings: Findings) -> str:
    found = "".join(f"\n- {error}" for error in findings.errors)
    return (
        f"{path}: expected plausible annotations, but these would give wrong metrics or training:{found}\n"
        "Correct the file (`swahr check` draws examples), or insist on it as it is: data.insist=true, "
        "`swahr score --insist` (or `analyse`), CocoSource(insist=True)"
    )


def _spellings(name: str) -> list[str]:
    """``name``, and how the file may be called instead, in the order in which they are tried."""
    names = [name]
    for spell in _OTHER_SPELLINGS:
        names += [spell(known) for known in names]
    return list(dict.fromkeys(names))


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # e.g. a name that is too long
        return False


def _choose(path: Path, images: Sequence[CocoImage], image_ids: Sequence[int] | None) -> Sequence[CocoImage]:
    if image_ids is None:
        return images
    by_id = {image.image_id: image for image in images}
    if unknown := [image_id for image_id in image_ids if image_id not in by_id]:
        raise ValueError(
            f"{path}: image_ids contains {unknown[:5]}, which are not among its {len(by_id)} images; correct "
            "them"
        )
    if repeated := [image_id for image_id, count in Counter(image_ids).items() if count > 1]:
        raise ValueError(
            f"{path}: expected every id in image_ids once, but {repeated[:5]} are repeated; correct it"
        )
    return [by_id[image_id] for image_id in image_ids]


def _labelled_people(image: CocoImage, num_keypoints: int) -> Annotations:
    people = [person for person in image.annotations if person.is_labelled]
    raw = np.array([person.keypoints for person in people], dtype=np.float64).reshape(-1, num_keypoints, 3)
    return Annotations(
        keypoints=POINT_FROM_INDEX.apply(raw[..., :2]),
        visibility=raw[..., 2].astype(np.int64),
        area=np.array([person.area for person in people], dtype=np.float64),
    )


def _ground_truth_entry(person: CocoAnnotation) -> dict[str, Any]:
    return {
        "iscrowd": 0,
        "num_keypoints": person.num_labelled,
        # The file's own num_keypoints takes precedence, even if wrong: the official tools use it.
        **person.entry,
        "keypoints": person.keypoints.ravel().tolist(),
        "area": person.area,
    }
