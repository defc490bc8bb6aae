"""Initial weights of a run: those of a checkpoint or a published file, also for other keypoints."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from swahr.checkpoint import load_weights
from swahr.choices import check_choice
from swahr.model.published import load_published, published_keypoints, read_published, weights_file
from swahr.skeleton import COCO, CROWDPOSE, Skeleton
from swahr.weights import located

_log = logging.getLogger(__name__)

WeightsKeypoints = Literal["same", "by_name", "new"]


def load_initial(
    network: nn.Module,
    weights: str | None,
    skeleton: Skeleton,
    *,
    keypoints: WeightsKeypoints,
    build: Callable[[Skeleton], nn.Module],
) -> list[Path]:
    """Load the initial weights that a run names, if any, with `start_from`; returns their files."""
    if weights is None:
        if keypoints != "same":
            raise ValueError(f"weights_keypoints={keypoints}: expected weights=…, got none; set it")
        return []
    path = located(weights_file(weights))
    start_from(network, path, skeleton, keypoints=keypoints, build=build)
    return [path]


def start_from(
    network: nn.Module,
    path: str | os.PathLike[str],
    skeleton: Skeleton,
    *,
    keypoints: WeightsKeypoints = "same",
    build: Callable[[Skeleton], nn.Module],
) -> None:
    """Load initial weights into a network that is to be trained on data with ``skeleton``.

    Args:
        network: a network of the weights' architecture.
        path: a checkpoint, or published weights; those of an ImageNet HRNet fill the backbone only.
        skeleton: the keypoints of the training data.
        keypoints: ``same`` if the weights are for these keypoints. Otherwise, ``by_name`` takes over the
            keypoints that both have, and ``new`` none; those not taken over keep their random weights.
        build: builds the network for other keypoints.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, of another architecture, or for other keypoints.
    """
    check_choice("weights_keypoints", keypoints, get_args(WeightsKeypoints))
    theirs, load = _weights(Path(path), assumed=(skeleton,) if keypoints == "same" else (COCO, CROWDPOSE))
    if theirs is None or (keypoints == "same" and theirs.keypoints == skeleton.keypoints):
        load(network)
        return
    if keypoints == "same":
        raise ValueError(
            f"{path}: the weights are for the {theirs.num_keypoints} keypoints of '{theirs.name}' "
            f"{list(theirs.keypoints)}, but the training data have the {skeleton.num_keypoints} of "
            f"'{skeleton.name}' {list(skeleton.keypoints)}. To fine-tune to other keypoints, set "
            "weights_keypoints=by_name (takes over those that both have) or weights_keypoints=new"
        )
    common = set(theirs.keypoints) & set(skeleton.keypoints) if keypoints == "by_name" else set()
    if keypoints == "by_name" and not common:
        raise ValueError(
            f"{path}: expected some keypoints of the training data, {list(skeleton.keypoints)}, got "
            f"{list(theirs.keypoints)}; rename them in the data, or set weights_keypoints=new"
        )
    source = build(theirs)
    load(source)
    taken = [name for name in skeleton.keypoints if name in common]
    pairs = [(skeleton.keypoints.index(name), theirs.keypoints.index(name)) for name in taken]
    unchanged = take_over(network, source, pairs, (skeleton.num_keypoints, theirs.num_keypoints))
    anew = [*(name for name in skeleton.keypoints if name not in common), *unchanged]
    _log.info("weights_keypoints=%s, from '%s' in %s: the backbone", keypoints, theirs.name, path)
    _log.info("keypoints taken over: %s; started anew: %s", *(", ".join(x) or "none" for x in (taken, anew)))


def _weights(
    path: Path, *, assumed: Iterable[Skeleton]
) -> tuple[Skeleton | None, Callable[[nn.Module], object]]:
    """The keypoints of weights (None without pose heads), and a function that loads them into their network.

    Published files do not name their keypoints; the first ``assumed`` skeleton with as many is taken.
    """
    if (checkpoint := load_weights(path)) is not None:
        return checkpoint.skeleton, checkpoint.load_into
    state_dict = read_published(path)
    count = published_keypoints(state_dict, source=str(path))
    theirs = None
    if count is not None:
        unnamed = Skeleton.from_dict({"name": "unknown", "keypoints": [f"#{i}" for i in range(count)]})
        theirs = next((one for one in assumed if one.num_keypoints == count), unnamed)
        _log.info("%s has %d unnamed keypoints, taken to be those of '%s' in order", path, count, theirs.name)
    return theirs, lambda network: load_published(network, state_dict, source=str(path))


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
