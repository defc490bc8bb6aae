"""Samples depend on (seed, epoch, index) and on nothing else; epochs are shuffled and shared out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from swahr.data import CocoSource, EpochSampler, PoseDataset, RandomAffine, collate
from swahr.structures import Sample


def _same(a: Sample, b: Sample) -> bool:
    return (
        np.array_equal(a.image, b.image)
        and np.array_equal(a.valid, b.valid)
        and np.array_equal(a.annotations.keypoints, b.annotations.keypoints)
        and np.array_equal(a.input_from_image.matrix, b.input_from_image.matrix)
    )


def test_sample_is_a_function_of_its_key(numbered_source: Any) -> None:
    def dataset(seed: int) -> PoseDataset:
        return PoseDataset(numbered_source(6), RandomAffine(input_size=32), seed)

    first, again = dataset(1), dataset(1)
    again[0, 0], again[5, 3]  # drawing others in between changes nothing
    assert _same(first[2, 4], again[2, 4])
    assert not _same(first[2, 4], first[3, 4])
    assert not _same(first[2, 4], dataset(2)[2, 4])


def test_unbounded_source_gives_fresh_images(numbered_source: Any) -> None:
    augmentation = RandomAffine(input_size=32)
    bounded = PoseDataset(numbered_source(6), augmentation, 0)
    unbounded = PoseDataset(numbered_source(6, unbounded=True), augmentation, 0)
    assert (bounded[3, 2].image_id, unbounded[3, 2].image_id) == (2, 20)
    assert len(bounded) == len(unbounded) == 6


def test_every_image_once_an_epoch_in_another_order() -> None:
    sampler = EpochSampler(10, seed=0)
    first = list(sampler)
    assert sorted(first) == [(0, index) for index in range(10)]
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(second) == [(1, index) for index in range(10)]
    assert [index for _, index in first] != [index for _, index in second]
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(EpochSampler(10, seed=1)) != first


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_processes_share_an_epoch(world_size: int) -> None:
    samplers = [EpochSampler(11, 0, rank, world_size) for rank in range(world_size)]
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])} == {11 // world_size}
    taken = [key for share in shares for key in share]
    assert len(set(taken)) == len(taken)
    # Rank by rank, the processes read along the order of a single one.
    single = list(EpochSampler(11, 0))
    assert [shares[i % world_size][i // world_size] for i in range(len(taken))] == single[: len(taken)]


def test_resuming_within_an_epoch() -> None:
    whole = list(EpochSampler(11, 0, 1, 2))
    assert list(EpochSampler(11, 0, 1, 2, done=lambda: 3)) == whole[3:]


def test_fewer_images_than_processes() -> None:
    with pytest.raises(ValueError, match="got 2 for 3 processes; use fewer devices"):
        EpochSampler(2, 0, 0, 3)


def test_collate_pads_people(numbered_source: Any) -> None:
    dataset = PoseDataset(numbered_source(6), RandomAffine(32, 0.0, (1.0, 1.0), "long", 0.0, 0.0), 0)
    samples = [dataset[0, index] for index in range(3)]
    batch = collate(samples)
    assert len(batch) == 3
    assert batch.images.shape == (3, 3, 32, 32)
    assert batch.images.is_contiguous()
    np.testing.assert_array_equal(batch.images[1].permute(1, 2, 0), samples[1].image)
    assert (batch.visibility > 0).any(dim=-1).sum(dim=1).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(batch.keypoints[2], samples[2].annotations.keypoints.astype(np.float32))
    assert batch.image_ids == (0, 1, 2)
    assert batch.input_from_image[1] is samples[1].input_from_image


def test_collate_without_any_people(numbered_source: Any) -> None:
    batch = collate([PoseDataset(numbered_source(6), RandomAffine(32), 0)[0, 3]])
    assert batch.keypoints.shape == (1, 0, 3, 2)
    assert batch.visibility.dtype == torch.int64
    assert batch.valid.dtype == torch.bool


def test_real_samples(shared_data: Path) -> None:
    source = CocoSource(
        shared_data / "coco/annotations/person_keypoints_train2017.json",
        shared_data / "coco/train2017",
        limit=6,
    )
    dataset = PoseDataset(source, RandomAffine(128), 0)
    batch = collate([dataset[0, index] for index in range(6)])
    inside = batch.keypoints[batch.visibility > 0]
    assert len(inside) > 20
    assert ((inside >= 0) & (inside <= 128)).all()
