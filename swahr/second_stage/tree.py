"""A spanning tree of a skeleton's limbs, along which structured features pass their messages."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

from swahr.keypoint_names import torso_outward
from swahr.skeleton import Skeleton

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeypointTree:
    """A rooted tree of all keypoints of a skeleton.

    Attributes:
        parents: the parent of each keypoint, -1 for the root.
        levels: keypoints by depth: the root, its children, their children, …
        joined: keypoints that no limb connects to the root, and that were made its children.
    """

    parents: tuple[int, ...]
    levels: tuple[tuple[int, ...], ...]
    joined: tuple[int, ...] = ()

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Keypoints breadth first: every keypoint after its parent."""
        return tuple(keypoint for level in self.levels for keypoint in level)


@cache
def spanning_tree(skeleton: Skeleton) -> KeypointTree:
    """Return the tree of a breadth-first search along the limbs.

    The root is the keypoint at which `torso_outward` begins, such as the left shoulder. Limbs that would
    close a cycle are left out. Of every other connected part, the first keypoint in that order
    becomes a child of the root, which the log states.
    """
    index = skeleton.keypoints.index
    candidates = [index(name) for name in torso_outward(skeleton.keypoints, skeleton.limbs)]
    root, parents, joined = candidates[0], {candidates[0]: -1}, []
    _search(root, parents, skeleton)
    for keypoint in candidates:
        if keypoint not in parents:
            joined.append(keypoint)
            parents[keypoint] = root
            _search(keypoint, parents, skeleton)
    if joined:
        start, names = (
            skeleton.keypoints[root],
            ", ".join(skeleton.keypoints[keypoint] for keypoint in joined),
        )
        _log.warning("skeleton '%s': no limbs lead from %s to %s; joined there", skeleton.name, start, names)
    ordered = tuple(parents[keypoint] for keypoint in range(skeleton.num_keypoints))
    return KeypointTree(ordered, tuple(_levels(root, parents)), tuple(joined))


def _search(start: int, parents: dict[int, int], skeleton: Skeleton) -> None:
    """Add the keypoints that limbs connect to ``start`` to ``parents``, breadth first."""
    reached = [start]
    for keypoint in reached:  # grows during the search
        for limb in skeleton.limb_indices:
            other = sum(limb) - keypoint
            if keypoint in limb and other not in parents:
                parents[other] = keypoint
                reached.append(other)


def _levels(root: int, parents: dict[int, int]) -> Iterator[tuple[int, ...]]:
    level: tuple[int, ...] = (root,)
    while level:
        yield level
        level = tuple(child for keypoint in level for child, parent in parents.items() if parent == keypoint)
