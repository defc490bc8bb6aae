"""Poses of a network that sees a person's keypoints as blobs of light in the three channels of a crop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from swahr.decode import Dark, PixelCentre
from swahr.second_stage import SecondStage
from swahr.skeleton import Skeleton
from swahr.structures import Maps, Poses

PUPPET = Skeleton.from_dict({"keypoints": ["left_hand", "right_hand", "head"]})
CPU = torch.device("cpu")
HANDS = np.array(
    [[(40.3, 62.9), (71.8, 60.4), (55.0, 20.7)], [(150.2, 130.1), (110.6, 128.0), (131.3, 80.0)]]
)


class BlobNetwork:
    """Heat of a keypoint: light of its channel, at strides 4 and 2; ``shift`` moves all to the right."""

    def __init__(self, shift=0):
        self.shift, self.batches = shift, []

    def __call__(self, crops):
        self.batches.append(len(crops))
        fine = F.avg_pool2d(crops.float() / 255, 2).roll(self.shift, dims=3)
        return Maps(4, {"heatmaps": F.avg_pool2d(fine, 2)}), Maps(2, {"heatmaps": fine})


class MirroredNetwork(BlobNetwork):
    """Does not tell hands by channel: those on the left of the crop are left hands."""

    def __call__(self, crops):
        middle = crops.shape[3] // 2
        hands = crops[:, :2].amax(dim=1)
        left, right = hands.clone(), hands.clone()
        left[..., middle:], right[..., :middle] = 0, 0
        return super().__call__(torch.stack([left, right, crops[:, 2]], dim=1))


class Constant:
    """Heatmaps of given heights, equal everywhere."""

    def __init__(self, *heights):
        self.heights = torch.tensor(heights)

    def __call__(self, crops):
        n, _, h, w = crops.shape
        return (Maps(4, {"heatmaps": self.heights[None, :, None, None].expand(n, -1, h // 4, w // 4)}),)


def picture(people, size=(200, 220), sigma=2.0):
    """An image with a Gaussian per keypoint, in the keypoint's channel."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    image = np.zeros((*size, 3))
    for person in people:
        for channel, (px, py) in enumerate(person):
            blob = 255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
            image[..., channel] = np.maximum(image[..., channel], blob)
    return image.round().astype(np.uint8)


def first_stage(people, score=1.0, noise=3.0):
    """Poses some pixels beside the people."""
    rng = np.random.default_rng(0)
    points = np.asarray(people).reshape(-1, 3, 2)
    count = len(points)
    return Poses(
        points + rng.uniform(-noise, noise, points.shape), np.ones((count, 3)), np.full(count, score),
        np.ones((count, 3), dtype=bool), PUPPET,
    )  # fmt: skip


def stage(**changes):
    settings = {"refine": Dark(sigma=2.0), "crop_size": (128, 96), "flip": False, "threshold": 0.0}
    return SecondStage(PUPPET, **settings | changes)


def test_keypoints_are_found_again_in_the_image():
    images = [picture(HANDS), picture(HANDS[:1], size=(90, 100))]
    poses = [first_stage(HANDS), first_stage(HANDS[:1])]
    both, one = stage()(BlobNetwork(), images, poses, CPU)
    np.testing.assert_allclose(both.keypoints, HANDS, atol=0.35)
    np.testing.assert_allclose(one.keypoints, HANDS[:1], atol=0.35)
    assert both.present.all()
    assert np.abs(poses[0].keypoints - HANDS).max() > 2
    assert both.skeleton == PUPPET


def test_refinement_makes_a_difference():
    images, poses = [picture(HANDS)], [first_stage(HANDS)]
    refined, coarse = (
        stage(refine=refine)(BlobNetwork(), images, poses, CPU)[0] for refine in (Dark(), PixelCentre())
    )
    error = [np.abs(found.keypoints - HANDS).mean() for found in (refined, coarse)]
    assert error[0] < 0.5 * error[1]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_people_of_all_images_share_batches(batch_size):
    images, poses = [picture(HANDS), picture(HANDS[:1])], [first_stage(HANDS), first_stage(HANDS[:1])]
    network = BlobNetwork()
    found = stage(batch_size=batch_size)(network, images, poses, CPU)
    assert network.batches == {1: [1, 1, 1], 2: [2, 1], 64: [3]}[batch_size]
    expected = stage()(BlobNetwork(), images, poses, CPU)
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own.keypoints, other.keypoints, atol=1e-4)
        np.testing.assert_allclose(own.scores, other.scores, atol=1e-6)


def test_mirror_images_swap_left_and_right_back():
    images, poses = [picture(HANDS[:1])], [first_stage(HANDS[:1])]
    (plain,) = stage()(MirroredNetwork(), images, poses, CPU)
    (flipped,) = stage(flip=True)(MirroredNetwork(), images, poses, CPU)
    np.testing.assert_allclose(plain.keypoints, HANDS[:1], atol=0.35)
    np.testing.assert_allclose(flipped.keypoints, plain.keypoints, atol=0.05)


def test_mirror_images_cancel_an_error_to_one_side():
    images, poses = [picture(HANDS[:1])], [first_stage(HANDS[:1])]
    (plain,) = stage()(MirroredNetwork(shift=1), images, poses, CPU)
    (flipped,) = stage(flip=True)(MirroredNetwork(shift=1), images, poses, CPU)
    assert (plain.keypoints[..., 0] - HANDS[:1, :, 0]).min() > 0.5
    np.testing.assert_allclose(flipped.keypoints, HANDS[:1], atol=0.5)


@pytest.mark.parametrize(("join_scores", "score"), [(True, 0.4 * 0.25), (False, 0.25)])
def test_scores_by_hand(join_scores, score):
    poses = [first_stage(HANDS, score=0.4)]
    images = [picture(HANDS)]
    (found,) = stage(join_scores=join_scores)(Constant(0.5, 0.25, -1.0), images, poses, CPU)
    np.testing.assert_allclose(found.scores, [[0.5, 0.25, 0.0]] * 2)
    np.testing.assert_array_equal(found.present, [[True, True, False]] * 2)
    assert np.isnan(found.keypoints[:, 2]).all()
    np.testing.assert_allclose(found.score, [score] * 2)
    (found,) = stage(threshold=0.25)(Constant(0.5, 0.25, -1.0), images, poses, CPU)
    np.testing.assert_array_equal(found.present, [[True, False, False]] * 2)
    np.testing.assert_allclose(found.score, [0.4 * 0.5 / 3] * 2)


def test_people_without_keypoints_pass_and_people_not_seen_are_left_out():
    poses = first_stage(HANDS, score=0.4)
    keypoints, present = poses.keypoints.copy(), poses.present.copy()
    keypoints[1], present[1] = np.nan, False
    empty = Poses(keypoints, present.astype(float), poses.score, present, PUPPET)
    (found,) = stage(threshold=0.9)(Constant(0.5, 0.25, -1.0), [picture(HANDS)], [empty], CPU)
    assert len(found) == 1
    assert not found.present.any()
    assert found.score.tolist() == [0.4]


def test_missing_keypoints_are_not_hidden():
    poses = replace(first_stage(HANDS), occluded=np.full((2, 3), 0.75))
    (found,) = stage()(Constant(0.5, 0.25, -1.0), [picture(HANDS)], [poses], CPU)
    np.testing.assert_array_equal(found.occluded, [[0.75, 0.75, 0.0]] * 2)
    (found,) = stage()(Constant(0.5, 0.25, -1.0), [picture(HANDS)], [first_stage(HANDS)], CPU)
    assert found.occluded is None


def test_nobody():
    network = BlobNetwork()
    (found,) = stage()(network, [picture([])], [Poses.nobody(PUPPET)], CPU)
    assert len(found) == 0
    assert stage()(network, [], [], CPU) == []
    assert network.batches == []


def test_the_first_stages_poses_are_not_changed():
    poses = first_stage(HANDS)
    before = poses.keypoints.copy()
    stage()(BlobNetwork(), [picture(HANDS)], [poses], CPU)
    np.testing.assert_array_equal(poses.keypoints, before)


def test_heatmaps_that_are_not_finite_are_an_error():
    with pytest.raises(ValueError, match=r"expected 3 finite heatmaps.*got 3 with NaN or infinity"):
        stage()(Constant(0.5, float("nan"), 0.0), [picture(HANDS)], [first_stage(HANDS)], CPU)


def test_heatmaps_of_other_keypoints_are_an_error():
    with pytest.raises(ValueError, match=r"expected 3 finite heatmaps.*got 2;"):
        stage()(Constant(0.5, 0.5), [picture(HANDS)], [first_stage(HANDS)], CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_size": (128, 100)}, r"multiples of the network's size_multiple 32, got \(128, 100\)"),
        ({"crop_size": 0}, r"got \(0, 0\)"),
        ({"crop_size": (128, 96, 3)}, "expected crop_size = "),
        ({"enlarge": 0.0}, "expected enlarge > 0"),
        ({"batch_size": 0}, "batch_size >= 1"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        stage(**changes)
