"""Limits of the machine: rates of reading memory and of matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from omegaconf import DictConfig

from benchmarks.measure import Case
from swahr.skeleton import COCO

_TAG_DIMENSIONS = 2
_SIDE = 2048  # of the matrices: large enough to keep all the arithmetic units busy


def limit_cases(config: DictConfig, _: Sequence[int], device: torch.device) -> Iterator[Case]:
    """Reading each of the decoder's maps once, at both sizes, and products of matrices."""
    h, w = config.decode_size
    for size in ((h, w), (h // 2, w // 2)):
        maps = torch.rand(1 + _TAG_DIMENSIONS, COCO.num_keypoints, *size, device=device)
        name = f"reading heatmaps and tags of {size[0]}x{size[1]} once"
        yield Case(
            "limits", name, 0, {"ours": partial(torch.amax, maps, (0, 2, 3))}, work=_giga(B=maps.nbytes)
        )
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        matrix = torch.rand(_SIDE, _SIDE, device=device).to(dtype)
        action = partial(torch.mm, matrix, matrix)
        name = f"matrices of {_SIDE}x{_SIDE}, {name}"
        yield Case("limits", name, 0, {"ours": action}, work=_giga(FLOP=2 * _SIDE**3))


def _giga(**amounts: float) -> dict[str, float]:
    return {f"G{unit}": amount / 1e9 for unit, amount in amounts.items()}
