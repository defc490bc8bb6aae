"""The search for pose NMS's parameters, with objectives whose best values are known."""

import numpy as np
import pytest
from jaxtyping import Bool

from swahr.second_stage import PoseNms
from swahr.second_stage.pose_nms_fit import PoseNmsFit, fit_pose_nms, replaced
from swahr.skeleton import COCO
from swahr.structures import Poses

Mask = Bool[np.ndarray, " p"]


def crowd(seed: int = 0, images: int = 20) -> tuple[list[Poses], np.ndarray]:
    """Two neighbours and a ghost of the first per image, and who is a ghost."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(images):
        body = rng.uniform(0, (60, 150), (17, 2))
        ghost, neighbour = (
            body + rng.normal(0, 3, body.shape),
            rng.uniform(0, (60, 150), (17, 2)) + np.array([20, 0]),
        )
        scores = rng.uniform(0.5, 1, (3, 17))
        found.append(
            Poses(
                np.stack([body, ghost, neighbour]), scores, np.array([0.9, 0.6, 0.7]),
                np.ones((3, 17), dtype=bool), COCO,
            )
        )  # fmt: skip
    return found, np.tile([False, True, False], images)


def search(poses: list[Poses], average_precision, **options) -> PoseNmsFit:
    return fit_pose_nms(PoseNms(), poses, average_precision, **options)


@pytest.mark.parametrize("relative", [True, False])
def test_ghosts_and_only_ghosts_are_eliminated_on_other_images_too(relative: bool):
    poses, ghosts = crowd()
    start = PoseNms(relative=relative, sigma_distance=0.5 if relative else 100.0)
    fit = fit_pose_nms(start, poses, lambda keep: float(np.mean(keep != ghosts)))
    assert (fit.before, fit.after) == (pytest.approx(2 / 3), 1.0)
    assert fit.rule.relative is relative
    for seed in (1, 2):
        others, ghosts = crowd(seed)
        keep = fit.rule.keep(fit.rule.compare(others))
        assert np.mean(keep != ghosts) >= 0.98


def test_nobody_is_eliminated_if_that_only_costs():
    poses, _ = crowd()
    fit = search(poses, lambda keep: float(keep.mean()))
    assert (fit.before, fit.after) == (1.0, 1.0)
    assert fit.rule.keep(fit.rule.compare(poses)).all()


def test_the_start_remains_if_nothing_matters():
    poses, _ = crowd()
    assert search(poses, lambda keep: 0.5).rule.settings() == PoseNms().settings()


def test_the_same_people_are_evaluated_once_and_ap_never_falls():
    poses, ghosts = crowd()
    seen: list[bytes] = []
    ticks: list[float] = []

    def average_precision(keep: Mask) -> float:
        seen.append(keep.tobytes())
        return float(np.mean(keep != ghosts))

    fit = search(poses, average_precision, tick=ticks.append)
    assert len(set(seen)) == len(seen) < len(ticks) < 2000
    assert fit.after == max(ticks)


def test_the_number_of_matched_keypoints_is_chosen_only_if_it_helps():
    poses, ghosts = crowd()
    assert search(poses, lambda keep: float(np.mean(keep != ghosts)), matched=True).rule.matched is None
    # An objective that no similarity reaches: those with at least three keypoints in the box go.
    rule = PoseNms(threshold=1e6, matched=3)
    target = rule.keep(rule.compare(poses))
    assert 0 < target.sum() < len(target)
    fit = search(poses, lambda keep: float((keep == target).all()), matched=True)
    found = fit.rule.keep(fit.rule.compare(poses))
    assert fit.after == 1.0
    np.testing.assert_array_equal(found, target)


def test_a_rule_with_other_settings():
    rule = replaced(PoseNms(matched=4), threshold=3.0)
    assert rule.settings() == {**PoseNms().settings(), "matched": 4, "threshold": 3.0}
