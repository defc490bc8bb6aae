"""Targets of whole batches, on a CPU and as a GPU draws them."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from swahr import kernels
from swahr.geometry import Affine
from swahr.structures import Batch
from swahr.targets import TargetEncoder


def _crowd(people: int, size: tuple[int, int]) -> Batch:
    """Three images; keypoints on the map, around it and nowhere, in tensors that are not contiguous."""
    rng = np.random.default_rng(people)
    keypoints = torch.from_numpy(rng.uniform(-9, 70, (4, people, 3, 2))).float()
    if people:
        keypoints[:3, 0, 0, 0] = torch.tensor([math.nan, math.inf, -1e30])
    return Batch(
        images=torch.zeros(3, 3, *size, dtype=torch.uint8),
        keypoints=keypoints.transpose(0, 2),
        visibility=torch.from_numpy(rng.integers(0, 3, (4, people, 3))).transpose(0, 2),
        valid=torch.from_numpy(rng.random((*size, 3)) < 0.5).permute(2, 0, 1),
        image_ids=(0, 1, 2),
        input_from_image=(Affine.identity(),) * 3,
    )


@pytest.mark.parametrize("strides", [(4, 2), (6, 4), (12, 3, 1)])
@pytest.mark.parametrize("centre", ["truncated", "unbiased"])
@pytest.mark.parametrize("people", [0, 1, 40])
def test_a_gpu_draws_the_same(
    people: int, centre: Any, strides: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, batch = TargetEncoder(strides, sigma=1.5, centre=centre), _crowd(people, (36, 60))
    drawn = encoder(batch)
    monkeypatch.setattr(kernels, "accept", lambda *_: False)
    scattered = encoder(batch)
    assert torch.equal(scattered.tag_index, drawn.tag_index)
    for maps, same in zip(scattered.maps, drawn.maps, strict=True):
        assert torch.equal(maps.heatmaps, same.heatmaps)
        assert torch.equal(maps.valid, same.valid)


@pytest.mark.parametrize("centre", ["truncated", "unbiased"])
def test_a_gpu_is_not_waited_for(centre: Any) -> None:
    """Tensors on "meta" are ahead of Python, as a GPU's: it gets an error where it would have to wait."""
    targets = TargetEncoder((4, 2), centre=centre)(_crowd(5, (36, 60)).to(torch.device("meta")))
    assert [maps.heatmaps.shape for maps in targets.maps] == [(3, 4, 9, 15), (3, 4, 18, 30)]


def test_maps_of_other_shapes_and_strides() -> None:
    """Strides that do not divide each other, on an input that is not square."""
    batch = _crowd(9, (36, 60))
    for strides in ((6, 4), (12, 3, 1)):
        for maps in TargetEncoder(strides=strides, centre="truncated")(batch).maps:
            (alone,) = TargetEncoder(strides=(maps.stride,), centre="truncated")(batch).maps
            assert torch.equal(maps.heatmaps, alone.heatmaps)
            share = torch.nn.functional.avg_pool2d(batch.valid.double()[:, None], maps.stride)[:, 0]
            assert torch.equal(maps.valid, share >= 0.5)


@pytest.mark.parametrize("part", ["keypoints", "visibility", "valid"])
def test_a_batch_whose_parts_do_not_belong_together(untyped: None, part: str) -> None:
    batch = _crowd(2, (64, 64))
    with pytest.raises(ValueError, match="of the same images, people"):
        TargetEncoder(strides=(4,), centre="truncated")(
            replace(batch, **{part: getattr(batch, part).repeat_interleave(2, dim=0)})
        )
