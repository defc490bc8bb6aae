"""Which keypoints are hidden: from planted occlusion maps to poses, files and pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from swahr.cli.problems import finite_people
from swahr.decode import Dark, Decoder, KeypointRecovery
from swahr.draw import draw_poses
from swahr.evaluation.results import poses_as_dataset, results_from_poses
from swahr.geometry import Affine
from swahr.grouping import GatedGrouping, PeakExtractor
from swahr.map_kinds import map_kind
from swahr.second_stage import OcclusionTarget
from swahr.skeleton import COCO
from swahr.structures import ABSENT, OCCLUDED, VISIBLE, Batch, DenseMaps, Poses
from swahr.targets import TargetEncoder


@pytest.fixture
def people() -> np.ndarray:
    """Two people (2 17 2), side by side. Frame: map."""
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(4)), axis=-1).reshape(-1, 2)[:17] * 9.0 + 8.5
    return np.stack([grid, grid + np.array([60.0, 2.0])])


@pytest.fixture
def hidden() -> np.ndarray:
    return np.random.default_rng(0).random((2, 17)) < 0.4


def decode(fields: dict[str, torch.Tensor]) -> Poses:
    decoder = Decoder(
        COCO, PeakExtractor(), GatedGrouping(COCO.grouping_indices), Dark(sigma=2.0), KeypointRecovery()
    )
    (poses,) = decoder(DenseMaps(fields, (Affine.identity(),)))
    return poses


def planted(people: np.ndarray, hidden: np.ndarray) -> dict[str, torch.Tensor]:
    """Heatmaps, tags and occlusion maps as the encoder's targets are."""
    visibility = torch.from_numpy(np.where(hidden, OCCLUDED, VISIBLE))[None]
    batch = Batch(
        torch.zeros(1, 3, 64, 128, dtype=torch.uint8), torch.from_numpy(people).float()[None], visibility,
        torch.ones(1, 64, 128, dtype=torch.bool), (1,), (Affine.identity(),),
    )  # fmt: skip
    (targets,) = TargetEncoder([1], extra={"occlusion": OcclusionTarget()})(batch).maps
    tags = torch.zeros(1, 17, 64, 128, 1)
    tags[..., 60:, :] = 5.0
    return {"heatmaps": targets.heatmaps, "tags": tags, "occlusion": targets.fields["occlusion"]}


def test_planted_maps_give_the_right_visibility(people: np.ndarray, hidden: np.ndarray) -> None:
    poses = decode(planted(people, hidden))
    order = np.argsort([person[0, 0] for person in poses.keypoints])
    assert poses.present.all()
    assert np.array_equal(poses.hidden[order], hidden)
    assert np.array_equal(poses.occluded[order], hidden.astype(float))


def test_a_share_of_the_heat_is_a_degree_between_0_and_1(people: np.ndarray, hidden: np.ndarray) -> None:
    fields = planted(people, hidden)
    poses = decode(fields | {"heatmaps": fields["heatmaps"] * 0.8, "occlusion": fields["occlusion"] * 0.2})
    np.testing.assert_allclose(np.unique(poses.occluded.round(6)), [0, 0.25])
    assert not poses.hidden.any()
    beyond = decode(fields | {"occlusion": fields["occlusion"] * 7 - 3})
    assert set(np.unique(beyond.occluded)) == {0.0, 1.0}
    nobody = decode({name: torch.zeros_like(value) for name, value in fields.items()})
    assert nobody.occluded.shape == nobody.hidden.shape == (0, 17)


def test_without_the_map_everything_is_as_before(people: np.ndarray, hidden: np.ndarray) -> None:
    fields = planted(people, hidden)
    with_map = decode(fields)
    without = decode({name: fields[name] for name in ("heatmaps", "tags")})
    assert without.occluded is None
    assert not without.hidden.any()
    for name in ("keypoints", "scores", "score", "present"):
        assert np.array_equal(getattr(with_map, name), getattr(without, name)), name
    assert results_from_poses({1: with_map}) == results_from_poses({1: without})
    assert without.select([1]).occluded is None
    assert np.array_equal(with_map.select([1]).occluded, with_map.occluded[[1]])


def test_files_have_visibility_and_degree_only_with_the_map(people: np.ndarray, hidden: np.ndarray) -> None:
    poses = decode(planted(people, hidden))
    poses = replace(poses, present=poses.present & (np.arange(17) > 0))

    def entries(poses: Poses) -> list[dict]:
        return poses_as_dataset([("a.jpg", (64, 128), poses)], COCO)["annotations"]

    for entry, person, own in zip(entries(poses), poses.hidden, poses.occluded, strict=True):
        assert entry["keypoints"][2::3] == [ABSENT, *np.where(person[1:], OCCLUDED, VISIBLE)]
        assert entry["keypoint_occlusion"] == own.tolist()
    for entry in entries(replace(poses, occluded=None)):
        assert entry["keypoints"][2::3] == [ABSENT] + [VISIBLE] * 16
        assert "keypoint_occlusion" not in entry


@pytest.mark.parametrize("size", [64, 640])
def test_hidden_keypoints_are_hollow_circles(people: np.ndarray, hidden: np.ndarray, size: int) -> None:
    factor = size // 64
    poses = decode(planted(people, hidden))
    poses = replace(poses, keypoints=poses.keypoints * factor)
    image = np.full((size, 2 * size, 3), 90, dtype=np.uint8)
    drawn, before = draw_poses(image, poses), draw_poses(image, replace(poses, occluded=None))
    assert np.array_equal(before, draw_poses(image, replace(poses, occluded=np.zeros((2, 17)))))
    for point, is_hidden in zip(poses.keypoints.reshape(-1, 2), poses.hidden.ravel(), strict=True):
        x, y = map(int, point)
        assert (drawn[y, x] == 90).all() == is_hidden, (x, y)
        assert (before[y, x] != 90).any()
        if is_hidden:  # and there is a ring about it
            assert (drawn[y - 3 * factor : y + 3 * factor, x] != 90).any()


def test_people_of_occlusion_maps_that_are_not_finite_are_named(
    people: np.ndarray, hidden: np.ndarray
) -> None:
    fields = planted(people, hidden)
    fields["occlusion"][..., 60:] = torch.nan
    left, problems = finite_people(decode(fields), "a.jpg")
    assert len(left) == 1
    assert problems[0].startswith("a.jpg: 1 of 2 people are left out")


def test_the_kind_is_merged_as_heatmaps_are() -> None:
    heat, occlusion = map_kind("heatmaps"), map_kind("occlusion")
    for field in ("mirror", "strides", "stack_flips", "average_test_scales"):
        assert getattr(heat, field) == getattr(occlusion, field), field
