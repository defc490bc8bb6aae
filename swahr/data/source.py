"""What every collection of labelled images offers."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from swahr.skeleton import Skeleton
from swahr.structures import LabelledImage


@runtime_checkable
class Source(Protocol):
    """Labelled images by index: annotated photographs (`CocoSource`) or rendered crowds.

    ``unbounded`` sources answer any index >= 0, so that every epoch may see fresh images; their length is
    what one epoch takes.
    """

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints of the annotated people."""

    @property
    def unbounded(self) -> bool:
        """Whether indices beyond the length give further images."""

    def __len__(self) -> int:
        """The number of images (of one epoch)."""

    def __getitem__(self, index: int) -> LabelledImage:
        """One image with its annotations, in the image frame."""

    def ground_truth(self) -> dict[str, Any]:
        """A COCO-format dictionary of exactly the ``len()`` images, for evaluation."""

    def describe(self, index: int) -> str:
        """How messages name the image: its file, or a label."""
