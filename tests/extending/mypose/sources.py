# mypose/sources.py
"""Images with YOLO-pose labels: one person per line, ``class cx cy w h`` and ``x y v`` of each keypoint."""

from pathlib import Path

import numpy as np

from swahr.coco_json import AREA_OF_BOX, bounding_box, dataset, image_entry, person_entry
from swahr.images import read_image
from swahr.skeleton import Skeleton
from swahr.structures import Annotations, LabelledImage


class YoloPose:
    """The images in ``images/PART`` with their labels in ``labels/PART``."""

    unbounded = False

    def __init__(self, images: str, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self._files = sorted(Path(images).glob("*.jpg"))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> LabelledImage:
        file = self._files[index]
        image = read_image(file)
        size = np.array(image.shape[1::-1])  # width and height
        labels = file.parents[2] / "labels" / file.parent.name / f"{file.stem}.txt"
        numbers = np.array(labels.read_text().split() if labels.exists() else (), dtype=np.float64)
        rows = numbers.reshape(-1, 5 + 3 * self.skeleton.num_keypoints)
        triples = rows[:, 5:].reshape(-1, self.skeleton.num_keypoints, 3)
        points, seen = triples[..., :2] * size, triples[..., 2].astype(np.int64)
        people = Annotations(points, seen, area=AREA_OF_BOX * (rows[:, 3:5] * size).prod(axis=1))
        return LabelledImage(image, people, np.ones(image.shape[:2], dtype=bool), image_id=index + 1)

    def ground_truth(self) -> dict[str, object]:
        images, entries = [], []
        for file, labelled in zip(self._files, map(self.__getitem__, range(len(self))), strict=True):
            images.append(image_entry(labelled.image_id, file.name, labelled.image.shape[:2]))
            people = labelled.annotations
            for points, seen, area in zip(people.keypoints, people.visibility, people.area, strict=True):
                box = bounding_box(points[seen > 0])
                entries.append(person_entry(labelled.image_id, points, seen, box=box, area=area))
        return dataset(images, entries, self.skeleton.to_category())

    def describe(self, index: int) -> str:
        return str(self._files[index])
