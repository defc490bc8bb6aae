"""Training images of several sources."""

from collections.abc import Iterator, Mapping
from typing import Any

from swahr.data.source import Source
from swahr.skeleton import Skeleton
from swahr.structures import LabelledImage


class MixedSource:
    """Images of several sources in turn, for training: photographs beside rendered crowds, say.

    Each source has the same number of images in an epoch. Images of a source with fewer are repeated, and
    sources without end go on with new images.

    Args:
        sources: a `swahr.data.Source` by any name.
        size: number of images of an epoch.
        skeleton: the keypoints; None if they are those of the sources.

    Raises:
        ValueError: there are no sources, one has no images, or their skeletons differ.
    """

    unbounded = True

    def __init__(self, sources: Mapping[str, Source], size: int, skeleton: Skeleton | None = None) -> None:
        if not sources or not all(map(len, sources.values())):
            empty = [name for name, source in sources.items() if not len(source)]
            raise ValueError(f"sources: expected some, each with images, got {list(sources)}, empty: {empty}")
        skeletons = {name: source.skeleton for name, source in sources.items()}
        self.skeleton = skeleton or next(iter(skeletons.values()))
        if others := {name: one.keypoints for name, one in skeletons.items() if one != self.skeleton}:
            raise ValueError(
                f"expected sources with the skeleton '{self.skeleton.name}' {self.skeleton.keypoints}, got "
                f"{others}; both need the same `categories`, or set data.skeleton"
            )
        self._sources, self._size = list(sources.values()), size

    def __len__(self) -> int:
        """The number of images of one epoch."""
        return self._size

    def __getitem__(self, index: int) -> LabelledImage:
        """Image ``index``, which may exceed the length."""
        return self._sources[index % len(self._sources)][self._place(index)]

    def __iter__(self) -> Iterator[LabelledImage]:
        """The images of the first epoch."""
        return (self[index] for index in range(len(self)))

    def describe(self, index: int) -> str:
        """The name of image ``index`` in its source."""
        return self._sources[index % len(self._sources)].describe(self._place(index))

    def ground_truth(self) -> dict[str, Any]:
        """Raise ValueError: image ids of the sources may be equal."""
        raise ValueError("a mix of sources is for training; choose one source as data.module.val")

    def _place(self, index: int) -> int:
        source, turn = self._sources[index % len(self._sources)], index // len(self._sources)
        return turn if source.unbounded else turn % len(source)
