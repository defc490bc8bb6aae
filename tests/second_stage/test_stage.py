"""Poses of a network that sees a person's keypoints as blobs of light in the three channels of a crop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from swahr.decode import Dark, DarkWithScaleMap, PixelCentre
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
    """Heatmaps of given heights, equal everywhere; and other maps by name."""

    def __init__(self, *heights, **others):
        self.fields = {"heatmaps": heights, **others}

    def __call__(self, crops):
        size = (len(crops), 3, crops.shape[2] // 4, crops.shape[3] // 4)
        fields = {
            name: torch.tensor(values)[None, :, None, None].expand(-1, -1, *size[2:]).repeat(size[0], 1, 1, 1)
            for name, values in self.fields.items()
        }
        return (Maps(4, fields),)


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


@pytest.mark.parametrize(("join_scores", "score"), [(True, (0.4 * 0.25) ** 0.5), (False, 0.25)])
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
    np.testing.assert_allclose(found.score, [(0.4 * 0.5 / 3) ** 0.5] * 2)


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


def test_occlusion_maps_of_the_single_person_network_say_which_keypoints_are_hidden():
    """The share of heat by hand, in place of what the first stage found; 0 where a keypoint is missing."""
    network = Constant(0.5, 0.25, -1.0, occlusion=(0.4, 0.05, 1.0))
    poses = first_stage(HANDS)
    for first in (poses, replace(poses, occluded=np.full((2, 3), 0.75))):
        (found,) = stage()(network, [picture(HANDS)], [first], CPU)
        np.testing.assert_allclose(found.occluded, [[0.8, 0.2, 0.0]] * 2, rtol=1e-6)
        np.testing.assert_array_equal(found.hidden, [[True, False, False]] * 2)
        (found,) = stage(flip=True)(network, [picture(HANDS)], [first], CPU)  # hands become equal
        np.testing.assert_allclose(found.occluded, [[0.6, 0.6, 0.0]] * 2, rtol=1e-6)


def test_occlusion_is_read_at_the_refined_keypoint():
    class HiddenHead(BlobNetwork):
        def __call__(self, crops):
            coarse, fine = super().__call__(crops)
            hidden = torch.tensor([0.0, 0.25, 1.0])[:, None, None]
            return tuple(
                Maps(maps.stride, {**maps.fields, "occlusion": maps.heatmaps * hidden})
                for maps in (coarse, fine)
            )

    (plain,) = stage()(BlobNetwork(), [picture(HANDS)], [first_stage(HANDS)], CPU)
    (found,) = stage()(HiddenHead(), [picture(HANDS)], [first_stage(HANDS)], CPU)
    np.testing.assert_allclose(found.occluded, [[0.0, 0.25, 1.0]] * 2, rtol=1e-5)
    np.testing.assert_array_equal(found.keypoints, plain.keypoints)
    np.testing.assert_array_equal(found.score, plain.score)


def test_people_without_keypoints_stay_as_hidden_as_they_were():
    poses = first_stage(HANDS)
    present = poses.present & np.array([[True], [False]])
    empty = replace(poses, keypoints=np.where(present[..., None], poses.keypoints, np.nan), present=present)
    network = Constant(0.5, 0.5, 0.5, occlusion=(0.5, 0.5, 0.5))
    (found,) = stage()(network, [picture(HANDS)], [empty], CPU)
    np.testing.assert_array_equal(found.occluded, [[1.0] * 3, [0.0] * 3])


def test_refinement_reads_the_networks_scale_maps():
    """A scale map of 0 leaves the width of DARK's kernel as it is, another one does not."""

    class Scaled(BlobNetwork):
        def __call__(self, crops):
            coarse, fine = super().__call__(crops)
            alpha = torch.full_like(fine.heatmaps, self.alpha)
            return coarse, Maps(2, {**fine.fields, "scale_maps": alpha})

    def keypoints(refine, alpha):
        network = Scaled()
        network.alpha = alpha
        (found,) = stage(refine=refine, flip=True)(network, [picture(HANDS)], [first_stage(HANDS)], CPU)
        return found.keypoints

    np.testing.assert_array_equal(keypoints(DarkWithScaleMap(), 0.0), keypoints(Dark(), 0.0))
    assert not np.array_equal(keypoints(DarkWithScaleMap(), 3.0), keypoints(Dark(), 3.0))
    with pytest.raises(ValueError, match="expected the scale maps of a network with a scale head"):
        stage(refine=DarkWithScaleMap())(BlobNetwork(), [picture(HANDS)], [first_stage(HANDS)], CPU)


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
