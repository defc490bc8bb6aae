"""The second stage with a deformation: all keypoints of a person are chosen together."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from swahr.decode import Dark, PixelCentre
from swahr.second_stage import (
    Deformation,
    SecondStage,
    deformation_to_dict,
    frames_of_people,
    in_sides_of_crops,
    read_deformation,
)
from swahr.skeleton import Skeleton
from swahr.structures import Maps, Poses

ARM = Skeleton.from_dict(
    {"keypoints": ["wrist", "elbow", "shoulder"], "limbs": [["shoulder", "elbow"], ["elbow", "wrist"]]}
)
CPU = torch.device("cpu")
CROPS = {"crop_size": (128, 96), "enlarge": 1.3}
# Down by 6 pixels of the map of 32 x 24, with a standard deviation of 0.1 sides.
DOWN = Deformation(np.array([[0, 6 / 32], [0, 6 / 32], [0, 0]]), np.array([[50.0, 50], [50, 50], [0, 0]]))


@pytest.fixture
def fitted(tmp_path):
    path = tmp_path / "deformation.json"
    path.write_text(json.dumps(deformation_to_dict(DOWN, ARM, **CROPS)))
    return path


def crowd(crops):
    """A shoulder and an elbow; the wrist is below, and somebody else's is seen better."""
    heat = torch.zeros(len(crops), 3, 32, 24)
    heat[:, 2, 8, 10], heat[:, 1, 14, 10] = 1.0, 1.0
    heat[:, 0, 20, 10], heat[:, 0, 3, 20] = 0.6, 0.9
    return (Maps(4, {"heatmaps": heat}),)


def light(crops):
    """Heat is light; different in every crop."""
    return (Maps(4, {"heatmaps": F.avg_pool2d(crops.float() / 255, 4)}),)


def people(count):
    points = np.random.default_rng(3).uniform(20, 180, (count, 3, 2))
    return Poses(points, np.ones((count, 3)), np.ones(count), np.ones((count, 3), dtype=bool), ARM)


def stage(deformation=None, **changes):
    given = None if deformation is None else str(deformation)
    settings = {"refine": PixelCentre(), "flip": False, **CROPS, "deformation": given}
    return SecondStage(ARM, **settings | changes)


def run(chosen, network, poses, seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    (found,) = chosen(network, [image], [poses], CPU)
    return found


def test_the_wrist_of_somebody_else(fitted):
    poses = people(1)
    (frame,) = frames_of_people(poses, (128, 96))
    for given, pixel, score in ((None, (20, 3), 0.9), (fitted, (10, 20), 0.6)):
        found = run(stage(given), crowd, poses)
        pixels = np.array([pixel, (10, 14), (10, 8)])
        np.testing.assert_allclose(frame.apply(found.keypoints[0]), 4 * (pixels + 0.5), atol=1e-9)
        np.testing.assert_allclose(found.scores, [[score, 1, 1]], rtol=1e-6)
        np.testing.assert_allclose(found.score, [math.sqrt((score + 2) / 3)], rtol=1e-6)


def test_the_weight_by_hand(fitted):
    """It is worth log(0.9 / 0.6) to stretch the lower arm by 10 of 24 and by -17 of 32 pixels."""
    cost = 50 * ((10 / 24) ** 2 + (17 / 32) ** 2)
    equal = math.log(0.9 / 0.6) / cost
    for factor, score in ((0.0, 0.9), (0.999 * equal, 0.9), (1.001 * equal, 0.6), (1.0, 0.6)):
        found = run(stage(fitted, deformation_weight=factor), crowd, people(1))
        assert found.scores[0, 0] == pytest.approx(score)


def test_heat_of_at_most_a_hundredth_is_no_evidence(fitted):
    def dark(crops):
        heat = crowd(crops)[0].heatmaps.clone()
        heat[:, 0] = torch.linspace(-1, 0.01, 32 * 24).reshape(32, 24)
        heat[:, 0, 20, 10] = 0.005
        return (Maps(4, {"heatmaps": heat}),)

    found = run(stage(fitted), dark, people(1))
    np.testing.assert_allclose(found.scores, [[0.005, 1, 1]], rtol=1e-6)


def test_without_a_deformation_keypoints_are_the_highest_pixels():
    crops = torch.randint(0, 256, (5, 3, 128, 96), dtype=torch.uint8, generator=torch.manual_seed(0))
    heat = light(crops)[0].heatmaps.flatten(2)
    for chosen in (stage(), stage(deformation_weight=7.0)):
        positions, scores, _ = chosen.read(light, crops)
        pixel = heat.argmax(dim=2).numpy()
        np.testing.assert_array_equal(positions, 4 * (np.stack([pixel % 24, pixel // 24], axis=-1) + 0.5))
        np.testing.assert_array_equal(scores, heat.amax(dim=2).double().numpy())


@pytest.mark.parametrize("flip", [False, True])
def test_the_order_of_people_and_batches_do_not_matter(fitted, flip):
    poses = people(7)
    expected = run(stage(fitted, flip=flip, refine=Dark()), light, poses)
    order = np.random.default_rng(0).permutation(7)
    for batch_size in (1, 3, 64):
        chosen = stage(fitted, flip=flip, refine=Dark(), batch_size=batch_size)
        found = run(chosen, light, poses.select(order))
        np.testing.assert_array_equal(found.keypoints, expected.keypoints[order])
        np.testing.assert_array_equal(found.scores, expected.scores[order])
    assert not np.array_equal(
        run(stage(flip=flip, refine=Dark()), light, poses).keypoints, expected.keypoints
    )


def test_crops_by_hand():
    """A box of 60 x 30 pixels is enlarged to 120 x 60, and extended to 120 x 160."""
    poses = np.array([[(40.0, 20), (100, 50), (np.nan, np.nan)]])
    found = in_sides_of_crops(poses, crop_size=(256, 192), enlarge=2.0)
    np.testing.assert_allclose(found[0, :2], [(0.25, 0.5 - 15 / 160), (0.75, 0.5 + 15 / 160)])
    assert np.isnan(found[0, 2]).all()


def test_a_file_is_read_as_it_was_written(fitted):
    for crop_size in ((128, 96), (256, 192)):
        found = read_deformation(fitted, ARM, crop_size=crop_size, enlarge=1.3)
        np.testing.assert_array_equal(found.rest, DOWN.rest)
        np.testing.assert_array_equal(found.weight, DOWN.weight)


NAN = [[float("nan"), 1], [1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "expected a deformation of format 1; use the deformation.json"),
        ({"keypoints": ["elbow", "wrist", "shoulder"]}, "expected the keypoints of skeleton 'person' "),
        ({"parents": ["shoulder", "shoulder", None]}, "expected the parents of skeleton 'person' "),
        ({"weight": NAN}, r"weight: expected finite numbers of shape \(3, 2\); fit the deformation again"),
        ({"rest": NAN}, r"rest: expected finite numbers of shape \(3, 2\)"),
        ({"rest": [[0, 1]]}, r"rest: expected finite numbers of shape \(3, 2\)"),
        ({"weight": [[-1, 1], [1, 1], [0, 0]]}, r"weight: expected numbers of at least 0, got -1\.0"),
        ({"settings": {"crop_size": [128, 96]}}, r"settings: enlarge: expected finite numbers"),
        ({"settings": None}, r"settings: crop_size: expected finite numbers of shape \(2,\)"),
        (
            {"settings": {"crop_size": [128, 128], "enlarge": 1.3}},
            r"expected crops of 128 x 96 .* got 128 x 128 and 1\.3; .* --crop-size 128 96 --enlarge 1\.3",
        ),
        ({"settings": {"crop_size": [128, 96], "enlarge": 1.0}}, "got 128 x 96 and 1;"),
    ],
)
def test_a_wrong_file(fitted, change, message):
    fitted.write_text(json.dumps(json.loads(fitted.read_text()) | change))
    with pytest.raises(ValueError, match=rf"deformation\.json: .*{message}"):
        stage(fitted)


def test_no_file_another_file_and_missing_entries(fitted):
    with pytest.raises(FileNotFoundError, match=r"no\.json: expected the deformation\.json that .*correct"):
        stage(fitted.with_name("no.json"))
    fitted.write_text(json.dumps({"format": 1, "keypoints": list(ARM.keypoints)}))
    with pytest.raises(ValueError, match=r"\['parents', 'rest', 'weight', 'settings'\] are missing"):
        stage(fitted)
    for text, message in (("[]", "expected a deformation of format 1"), ("{", "expected JSON")):
        fitted.write_text(text)
        with pytest.raises(ValueError, match=message):
            stage(fitted)


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_wrong_weight(fitted, weight):
    with pytest.raises(ValueError, match="expected a finite deformation_weight of at least 0"):
        stage(fitted, deformation_weight=weight)
