"""The interface of data sets."""

from typing import Any, Protocol, runtime_checkable

from swahr.skeleton import Skeleton
from swahr.structures import LabelledImage


@runtime_checkable
class Source(Protocol):
    """Labelled images by index, e.g. `CocoSource` or `swahr.synthetic.SyntheticSource`."""

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints of the annotated people."""

    @property
    def unbounded(self) -> bool:
        """Whether indices beyond the length are valid, so that every epoch can have new images."""

    def __len__(self) -> int:
        """The number of images of one epoch."""

    def __getitem__(self, index: int) -> LabelledImage: ...

    def ground_truth(self) -> dict[str, Any]:
        """A COCO-format mapping of the ``len()`` images, for evaluation."""

    def describe(self, index: int) -> str:
        """The name of an image in messages, e.g. its path."""
