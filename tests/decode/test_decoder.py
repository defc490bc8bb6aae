"""The whole of decoding: golden cases, round trips, batches."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.targets import perfect_maps

from swahr.decode import Dark, Decoder, KeypointRecovery, QuarterOffset
from swahr.geometry import Affine
from swahr.grouping import GatedGrouping, OfficialGrouping, PeakExtractor
from swahr.skeleton import COCO, CROWDPOSE, Skeleton
from swahr.structures import DenseMaps

CASES = ["p0", "p1_t1", "p1_t2", "p5_t1", "p5_t2", "p15_t1", "p15_t2", "p30_t1", "p30_t2", "p35_over_max"]
CASES += ["spurious", "missing", "close_tags", "close_tags_t1", "close_tags_noval", "ignore_too_much"]
CASES += ["equal_tags", "borders", "crowd14_p5", "crowd14_p15_close", "nms3", "plateau"]


def decoder(skeleton: Skeleton = COCO, *, recover: bool = True) -> Decoder:
    return Decoder(
        skeleton,
        extract_peaks=PeakExtractor(max_people=40),
        group=GatedGrouping(skeleton.grouping_indices),
        refine=Dark(),
        recover=KeypointRecovery() if recover else None,
    )


def maps_of(heatmaps: np.ndarray, tags: np.ndarray, *frames: Affine) -> DenseMaps:
    """Dense maps of a batch (b k h w), (b k h w t)."""
    frames = frames or (Affine.identity(),) * len(heatmaps)
    return DenseMaps({"heatmaps": torch.from_numpy(heatmaps), "tags": torch.from_numpy(tags)}, frames)


def test_no_golden_case_is_left_out(golden_json):
    assert sorted(CASES) == sorted(golden_json("d_group.json"))


@pytest.mark.parametrize("solver", ["munkres", "scipy"])
@pytest.mark.parametrize("case", CASES)
def test_golden_poses_of_the_official_decoding(golden_arrays, golden_json, case: str, solver: str):
    """The whole of it; where several assignments are optimal, SciPy's answer has its own golden numbers."""
    golden, about = golden_arrays("d_group.npz"), golden_json("d_group.json")[case]
    options = about["test_overrides"]
    tied = solver == "scipy" and not about["same_as_munkres114"]["scipy"]
    group = OfficialGrouping(
        about["joint_order"],
        solver=solver,
        use_score=options.get("USE_DETECTION_VAL", True),
        stop_when_full=options.get("IGNORE_TOO_MUCH", False),
    )
    maps = maps_of(golden[f"{case}/det"], golden[f"{case}/tag"])
    for stage, recover in (("refine_scipy", True),) if tied else (("adjust", False), ("refine", True)):
        decode = Decoder(
            CROWDPOSE if about["num_joints"] == 14 else COCO,
            extract_peaks=PeakExtractor(window=options.get("NMS_KERNEL", 5), plateaus="all"),
            group=group,
            refine=QuarterOffset(),
            recover=KeypointRecovery() if recover else None,
        )
        (poses,) = decode(maps)
        expected = golden[f"{case}/{stage}"]
        assert len(poses) == len(expected)
        if not len(poses):
            assert poses.keypoints.shape == (0, 17, 2)
            continue
        assert (poses.present == (expected[..., 2] > 0)).all()
        np.testing.assert_allclose(
            poses.keypoints[poses.present], expected[poses.present][:, :2], rtol=0, atol=1e-4
        )
        np.testing.assert_allclose(poses.scores, expected[..., 2], rtol=0, atol=1e-6)
        scores = golden[f"{case}/match_scipy"][..., 2].mean(axis=1) if tied else golden[f"{case}/scores"]
        np.testing.assert_allclose(poses.score, scores, rtol=0, atol=1e-6)


def drawn(seed: int, people: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """People at random places, far enough from each other, and their maps."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(16)[:people]
    centres = np.stack([cells % 4, cells // 4], axis=1) * 24 + 12
    keypoints = centres[:, None] + rng.uniform(-3, 3, (people, 17, 2))
    present = np.ones((people, 17), dtype=bool)
    return keypoints, *perfect_maps(keypoints, present, (96, 96))


def sorted_poses(keypoints: np.ndarray) -> np.ndarray:
    return keypoints[np.lexsort(keypoints[:, 0].round(1).T)]


@pytest.mark.parametrize("people", [1, 5, 16])
def test_perfect_maps_decode_to_the_people_they_were_drawn_from(people: int):
    keypoints, heatmaps, tags = drawn(people, people)
    (poses,) = decoder()(maps_of(heatmaps[None], tags[None]))
    assert poses.present.all()
    np.testing.assert_allclose(sorted_poses(poses.keypoints), sorted_poses(keypoints), rtol=0, atol=0.02)
    assert poses.score == pytest.approx(poses.scores.mean(axis=1))


def test_real_people_survive_encoding_and_decoding(shared_data: Path):
    """Every annotated keypoint that no other person's hides comes back within 0.05 map pixels."""
    file = shared_data / "coco" / "annotations" / "person_keypoints_val2017.json"
    annotations = json.loads(file.read_text())["annotations"]
    images = sorted({person["image_id"] for person in annotations if person["num_keypoints"] > 4})[:12]
    checked = 0
    for image_id in images:
        raw = np.array(
            [p["keypoints"] for p in annotations if p["image_id"] == image_id and p["num_keypoints"]]
        )
        raw = raw.reshape(-1, 17, 3).astype(np.float64)
        map_from_image, size = Affine.scaling(0.4), (256, 256)
        keypoints, present = map_from_image.apply(raw[..., :2] + 0.5), raw[..., 2] > 0
        heatmaps, tags = perfect_maps(keypoints, present, size)
        (poses,) = decoder(recover=False)(maps_of(heatmaps[None], tags[None], map_from_image))
        found = map_from_image.apply(poses.keypoints)
        for person, k in zip(*np.nonzero(present), strict=True):
            others = np.delete(keypoints[:, k], person, axis=0)[np.delete(present[:, k], person)]
            apart = np.abs(others - keypoints[person, k]).max(axis=1).min(initial=np.inf)
            if apart > 14 and keypoints[person, k].min() > 3 and keypoints[person, k].max() < 253:
                error = np.linalg.norm(found[:, k] - keypoints[person, k], axis=1)
                assert np.nanmin(error) < 0.05
                checked += 1
    assert checked > 100


def test_convention_poses_are_in_the_image_frame():
    keypoints, heatmaps, tags = drawn(3, 1)
    map_from_image = Affine.scaling(0.5) @ Affine.translation(-10.0, 4.0)
    (poses,) = decoder()(maps_of(heatmaps[None], tags[None], map_from_image))
    np.testing.assert_allclose(poses.keypoints, keypoints * 2 + [10.0, -4.0], rtol=0, atol=0.04)


def test_a_batch_gives_what_its_images_give_alone():
    scenes = [drawn(seed, people)[1:] for seed, people in ((0, 3), (1, 1), (2, 7))]
    heatmaps, tags = (np.stack(parts) for parts in zip(*scenes, strict=True))
    heatmaps[1] = 0  # an image without people in between
    together = decoder()(maps_of(heatmaps, tags))
    for i, poses in enumerate(together):
        (alone,) = decoder()(maps_of(heatmaps[i : i + 1], tags[i : i + 1]))
        assert np.array_equal(poses.keypoints, alone.keypoints, equal_nan=True)
        assert np.array_equal(poses.score, alone.score)
    assert [len(poses) for poses in together] == [3, 0, 7]


def test_shapes_without_people():
    (poses,) = decoder()(
        maps_of(np.zeros((1, 17, 32, 32), np.float32), np.zeros((1, 17, 32, 32, 2), np.float32))
    )
    assert poses.keypoints.shape == (0, 17, 2)
    assert poses.scores.shape == poses.present.shape == (0, 17)
    assert poses.score.shape == (0,)


def test_a_missing_keypoint_is_nan_and_lowers_the_score_before_recovery():
    _, heatmaps, tags = drawn(0, 1)
    heatmaps[5] *= 0.05  # below the threshold of peaks, above that of recovery
    maps = maps_of(heatmaps[None], tags[None])
    (raw,) = decoder(recover=False)(maps)
    (complete,) = decoder(recover=True)(maps)
    assert not raw.present[0, 5]
    assert np.isnan(raw.keypoints[0, 5]).all()
    assert raw.scores[0, 5] == 0
    assert complete.present.all()
    assert 0 < complete.scores[0, 5] <= 0.05
    assert raw.score[0] == complete.score[0] == pytest.approx(raw.scores[0].mean())


def test_maps_of_another_skeleton():
    with pytest.raises(ValueError, match="one per keypoint of skeleton 'coco'"):
        decoder()(maps_of(np.zeros((1, 14, 8, 8), np.float32), np.zeros((1, 14, 8, 8, 1), np.float32)))


def test_only_peaks_leave_the_device(monkeypatch: pytest.MonkeyPatch):
    """What goes to the CPU is peaks and offsets, however many people there are; maps stay where they are."""
    _, heatmaps, tags = drawn(1, 16)
    heatmaps[3] = 0  # so that there is something to recover
    moved = []
    to_cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: moved.append(tensor.numel()) or to_cpu(tensor))
    (poses,) = decoder()(maps_of(heatmaps[None], tags[None]))
    assert len(poses) == 16
    assert 0 < sum(moved) < heatmaps.size / 10
