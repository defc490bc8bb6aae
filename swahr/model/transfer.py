"""Weights for other keypoints: rows of keypoints are taken over by name, or start anew."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class KeypointNetwork(Protocol):
    """A network that knows which rows of its tensors belong to keypoints."""

    def keypoint_rows(self) -> dict[str, list[int]]:
        """The first row (dimension 0) of each block of one row per keypoint, for tensors by name.

        No rows: the tensor belongs to pairs of keypoints, and has no use for others.
        """


def take_over(
    network: nn.Module, source: nn.Module, pairs: Sequence[tuple[int, int]], num_keypoints: tuple[int, int]
) -> list[str]:
    """Copy weights from a network for other keypoints; rows of keypoints without a partner are not changed.

    Args:
        network: the network to change.
        source: the same network for other keypoints.
        pairs: indices (of ``network``, of ``source``) of the same keypoint.
        num_keypoints: that of ``network`` and of ``source``.

    Returns:
        The names of unchanged tensors, which depend on the keypoints in other ways.

    Raises:
        TypeError: the network does not know the rows of its keypoints.
    """
    if not (isinstance(network, KeypointNetwork) and isinstance(source, KeypointNetwork)):
        raise TypeError(
            f"weights for other keypoints: expected a network with the method keypoint_rows, got "
            f"{type(network).__name__}; add it (see swahr.model.HigherHRNet)"
        )
    ours, theirs = network.state_dict(), source.state_dict()
    rows = network.keypoint_rows(), source.keypoint_rows()
    unchanged = [
        name for name in ours if rows[0].get(name) == [] or ours[name].shape[1:] != theirs[name].shape[1:]
    ]
    for name in ours.keys() - set(unchanged):
        if name not in rows[0]:
            ours[name] = theirs[name]
            continue
        starts = [blocks[name] for blocks in rows]
        shared = [
            _other_rows(len(t[name]), s, k)
            for t, s, k in zip((ours, theirs), starts, num_keypoints, strict=True)
        ]
        ours[name] = ours[name].clone()
        ours[name][shared[0]] = theirs[name][shared[1]]
        for start, other in zip(*starts, strict=True):
            for i, j in pairs:
                ours[name][start + i] = theirs[name][other + j]
    network.load_state_dict(ours)
    return unchanged


def _other_rows(count: int, starts: Sequence[int], num_keypoints: int) -> Tensor:
    """A mask of the rows that belong to no keypoint."""
    mask = torch.ones(count, dtype=torch.bool)
    for start in starts:
        mask[start : start + num_keypoints] = False
    return mask
