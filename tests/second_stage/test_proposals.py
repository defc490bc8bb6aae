"""Pose-guided proposals: atoms of planted families, mixtures of planted offsets, sampling and the file."""

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swahr.second_stage import ProposalBoxes
from swahr.second_stage.proposals import aligned_poses, boxes_of, torsos
from swahr.skeleton import COCO, CROWDPOSE, Skeleton

NINE = Skeleton.from_dict({"name": "nine", "keypoints": [f"point_{i}" for i in range(9)]})
MEANS = np.array([[-0.1, 0.05, 0.1, 0.0], [0.3, -0.2, 0.4, 0.2]])
DEVIATIONS = np.array([[0.02, 0.04, 0.03, 0.02], [0.05, 0.03, 0.04, 0.06]])


def standing(skeleton: Skeleton = COCO) -> np.ndarray:
    """A pose with a torso 100 long."""
    rng = np.random.default_rng(7)
    body = rng.uniform(0, (120, 320), (skeleton.num_keypoints, 2))
    for i, name in enumerate(skeleton.keypoints):
        if "shoulder" in name:
            body[i] = (40 if "left" in name else 80, 60)
        if "hip" in name:
            body[i] = (40 if "left" in name else 80, 160)
    return body


def families(count: int, seed: int = 0, skeleton: Skeleton = COCO) -> tuple[np.ndarray, np.ndarray]:
    """Two families of poses of any size and position, and which family each belongs to."""
    rng = np.random.default_rng(seed)
    body, family = standing(skeleton), rng.integers(2, size=count)
    lying = body[:, ::-1]
    poses = np.where(family[:, None, None], lying, body) + rng.normal(0, 3, (count, *body.shape))
    return poses * rng.uniform(0.3, 3, (count, 1, 1)) + rng.uniform(0, 500, (count, 1, 2)), family


def detected(true: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Poses whose boxes have these offsets."""
    box = boxes_of(true)
    low, sides = box[:, None, :2], box[:, None, 2:] - box[:, None, :2]
    moved = box + offsets * np.tile(box[:, 2:] - box[:, :2], 2)
    return (true - low) / sides * (moved[:, None, 2:] - moved[:, None, :2]) + moved[:, None, :2]


def planted(count: int = 1200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Annotated and detected poses of two families, whose offsets have the moments above."""
    true, family = families(count, seed)
    rng = np.random.default_rng(seed + 1)
    return true, detected(true, rng.normal(MEANS[family], DEVIATIONS[family])), family


def fit(*arguments: Any, **options: Any) -> ProposalBoxes:
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'swahr[second-stage]'")
    from swahr.second_stage.proposal_fit import fit_proposals

    return fit_proposals(*arguments, **options)


@pytest.fixture(scope="module")
def proposals() -> ProposalBoxes:
    true, found, _ = planted()
    return fit(true, found, COCO, atoms=2, components=1)


def by_hand() -> ProposalBoxes:
    """Proposals that need no fit: every box is moved by a tenth, one atom."""
    from swahr.second_stage.proposals import Mixture

    mixture = Mixture(10, np.ones(1), np.full((1, 4), 0.1), 1e-12 * np.eye(4)[None])
    return ProposalBoxes(COCO.keypoints, 0.4, np.zeros((17, 2)), np.zeros((1, 17, 2)), (mixture,))


def test_two_families_are_two_atoms_with_their_own_offsets(proposals: ProposalBoxes):
    true, _, family = planted(300, seed=5)
    atoms = proposals.atoms_of(true)
    first = int(atoms[family == 0][0])
    np.testing.assert_array_equal(atoms == first, family == 0)
    for number in (0, 1):
        mixture = proposals.mixtures[first if number == 0 else 1 - first]
        # Some 600 pairs: three standard errors of a mean are 0.12 deviations, of a variance 17 %.
        np.testing.assert_allclose(mixture.means[0], MEANS[number], atol=0.008)
        variances = np.diag(mixture.covariances[0])
        np.testing.assert_allclose(variances, DEVIATIONS[number] ** 2, rtol=0.2)
        assert abs(mixture.covariances[0] - np.diag(variances)).max() < 5e-4


def test_two_modes_of_one_atom_are_two_gaussians():
    true, family = families(800)
    true = true[family == 0]
    rng = np.random.default_rng(3)
    mode = (rng.random(len(true)) < 0.3).astype(int)
    found = detected(true, rng.normal(MEANS[mode], 0.02))
    (mixture,) = fit(true, found, COCO, atoms=1, components=2).mixtures
    np.testing.assert_allclose(mixture.weights, [0.7, 0.3], atol=0.07)
    np.testing.assert_allclose(mixture.means, MEANS, atol=0.01)
    np.testing.assert_allclose(mixture.covariances, np.tile(4e-4 * np.eye(4), (2, 1, 1)), atol=1.5e-4)


def test_samples_have_the_planted_moments(proposals: ProposalBoxes):
    pose, rng = standing(), np.random.default_rng(0)
    box = boxes_of(pose[None])[0]
    sampled = np.stack([proposals.sample(pose, box, rng) for _ in range(2000)])
    offsets = (sampled - box) / np.tile(box[2:] - box[:2], 2)
    np.testing.assert_allclose(offsets.mean(axis=0), MEANS[0], atol=0.01)
    np.testing.assert_allclose(offsets.std(axis=0), DEVIATIONS[0], rtol=0.15)


def test_sampling_with_a_seed_is_reproducible(proposals: ProposalBoxes):
    pose = standing()
    box = boxes_of(pose[None])[0]
    first, again, other = (
        [proposals.sample(pose, box, rng).tolist() for _ in range(5)]
        for rng in map(np.random.default_rng, (4, 4, 5))
    )
    assert first == again != other


def test_the_fit_is_reproducible_and_its_file_reads_back(proposals: ProposalBoxes, tmp_path: Path):
    true, found, _ = planted()
    again = fit(true, found, COCO, atoms=2, components=1)
    assert again.to_dict() == proposals.to_dict()
    path = tmp_path / "proposals.json"
    path.write_text(json.dumps(proposals.to_dict()))
    assert ProposalBoxes.from_json(path, COCO).to_dict() == proposals.to_dict()


def test_boxes_by_hand():
    box = by_hand().sample(standing(), np.array([10.0, 20.0, 110.0, 220.0]), np.random.default_rng(0))
    np.testing.assert_allclose(box, [20.0, 40.0, 120.0, 240.0], atol=1e-2)


def test_no_box_is_turned_inside_out():
    from dataclasses import replace

    one = by_hand()
    inverted = replace(one.mixtures[0], means=np.array([[0.8, 0.0, -0.8, 0.0]]))
    box = np.array([0.0, 0.0, 10.0, 20.0])
    sampled = replace(one, mixtures=(inverted,)).sample(standing(), box, np.random.default_rng(0))
    np.testing.assert_array_equal(sampled, box)


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE])
def test_torso_by_hand(skeleton: Skeleton):
    middle, length = torsos(standing(skeleton)[None], skeleton.keypoints)
    np.testing.assert_allclose(middle, [[60, 110]])
    np.testing.assert_allclose(length, [100])
    _, none = torsos(np.zeros((1, 9, 2)), NINE.keypoints)
    assert np.isnan(none).all()


@given(factor=st.floats(0.05, 20), shift=st.floats(-1000, 1000), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_alignment_ignores_size_and_position(factor: float, shift: float, seed: int):
    rng = np.random.default_rng(seed)
    pose = standing() + rng.normal(0, 5, (17, 2))
    pose[rng.random(17) < 0.4] = np.nan  # with and without a torso
    pose[0], pose[1] = (0, 0), (100, 250)
    aligned = [aligned_poses(one[None], COCO.keypoints, 0.4) for one in (pose, pose * factor + shift)]
    np.testing.assert_allclose(*aligned, atol=1e-6)


def test_poses_without_a_torso_and_empty_ones():
    half = np.full((2, 17, 2), np.nan)
    half[0, :3] = [(0, 0), (100, 200), (50, 100)]  # the box is 100 x 200: 0.5 of it is one unit
    aligned = aligned_poses(half, COCO.keypoints, 0.5)
    np.testing.assert_allclose(aligned[0, :3], [(-0.5, -1), (0.5, 1), (0, 0)])
    assert np.isnan(aligned[1]).all()
    assert by_hand().atoms_of(half).tolist() == [0, 0]


def test_any_skeleton():
    true, family = families(200, skeleton=NINE)
    boxes = fit(true, detected(true, np.zeros((200, 4)) + 0.1), NINE, atoms=2)
    atoms = boxes.atoms_of(true)
    assert (atoms == family).all() or (atoms == 1 - family).all()
    pose = true[0]
    box = boxes_of(pose[None])[0]
    sampled = boxes.sample(pose, box, np.random.default_rng(0))
    np.testing.assert_allclose(sampled - box, 0.1 * np.tile(box[2:] - box[:2], 2), atol=0.05 * np.ptp(box))


def test_rare_atoms_join_others_and_poor_pairs_are_left_out():
    true, _ = families(100)
    shoulders, hips = (
        [i for i, name in enumerate(COCO.keypoints) if word in name] for word in ("shoulder", "hip")
    )
    longer = np.ptp(true[:3], axis=1).max(axis=1)
    true[:3, shoulders] = true[:3, hips] + 0.2 * longer[:, None, None]  # an atom of their own: short torsos
    found = detected(true, np.full((100, 4), 0.05))
    found[3, 2:], true[4, 1:] = np.nan, np.nan
    true[5, :, 0] = 3.0  # a line
    boxes = fit(true, found, COCO, atoms=3)
    assert sum(mixture.pairs for mixture in boxes.mixtures) == 97
    assert min(mixture.pairs for mixture in boxes.mixtures) >= 10
    assert len(boxes.mixtures) == 2
    for mixture in boxes.mixtures:
        np.testing.assert_allclose(mixture.weights @ mixture.means, 0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"atoms": 21}, "expected at least 210 pairs for 21 atoms, got 200 of 200 pairs that are usable"),
        ({"atoms": 0}, "expected at least one atom and component, got 0 and 3"),
        ({"components": 0}, "expected at least one atom and component, got 8 and 0"),
        ({"skeleton": CROWDPOSE}, "with the 14 keypoints of skeleton 'crowdpose', got shapes"),
        ({"found": np.zeros((3, 17, 2))}, "expected as many detected as annotated poses"),
    ],
)
def test_what_cannot_be_fitted(change: dict[str, Any], message: str, untyped: None):
    true, found, _ = planted(200)
    given = {"true": true, "found": found, "skeleton": COCO} | change
    with pytest.raises(ValueError, match=message):
        fit(**given)


def test_equal_poses_are_one_atom():
    same = np.repeat(standing()[None], 100, axis=0)
    with pytest.raises(ValueError, match="expected at least 3 distinct poses, got 1; use fewer atoms"):
        fit(same, same, COCO, atoms=3)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError("No module named 'sklearn'")
        return real(name, *arguments, **options)

    from swahr.second_stage.proposal_fit import fit_proposals

    monkeypatch.setattr(builtins, "__import__", without)
    true, found, _ = planted(200)
    with pytest.raises(ImportError, match=r"needs scikit-learn, .* pip install 'swahr\[second-stage\]'"):
        fit_proposals(true, found, COCO)


def changed(content: Any, change: Any) -> Any:
    *path, last = change[0]
    target = content
    for key in path:
        target = target[key]
    if change[1] is None:
        del target[last]
    else:
        target[last] = change[1]
    return content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((["format"], 2), "expected proposals of format 1"),
        ((["torso"], None), "are missing"),
        ((["torso"], "long"), r"torso: expected finite numbers of shape \(\)"),
        ((["atoms"], []), "objects as 'atoms'"),
        ((["atoms", 0], 3), "objects as 'atoms'"),
        ((["atoms", 0, "pose"], None), r"atoms\[0\].pose: expected finite numbers of shape \(17, 2\)"),
        ((["atoms", 0, "weights"], [0.5]), r"atoms\[0\]: expected weights that sum to 1"),
        ((["atoms", 0, "weights"], []), r"means: expected finite numbers of shape \(0, 4\)"),
        ((["atoms", 0, "covariances", 0, 0, 0], -1.0), "positive definite"),
        ((["atoms", 0, "covariances", 0, 0, 1], 1e-13), None),
        ((["atoms", 0, "covariances", 0, 0, 1], 0.5), "positive definite"),
        ((["atoms", 0, "means"], [[1, 2, 3]]), r"atoms\[0\].means: expected finite numbers of shape"),
        ((["filling", 0, 0], float("nan")), "filling: expected finite numbers"),
        ((["keypoints"], ["nose"]), "expected the keypoints of skeleton 'coco'"),
        ((["keypoints"], 5), "lists of names as 'keypoints'"),
    ],
)
def test_malformed_files(tmp_path: Path, change: Any, message: str | None):
    path = tmp_path / "proposals.json"
    path.write_text(json.dumps(changed(by_hand().to_dict(), change)))
    if message is None:
        ProposalBoxes.from_json(path, COCO)
        return
    with pytest.raises(ValueError, match=message) as error:
        ProposalBoxes.from_json(path, COCO)
    assert str(path) in str(error.value)


def test_another_file_and_poses_of_another_skeleton(tmp_path: Path, untyped: None):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"a.json: expected proposals of format 1; use the proposals.json"):
        ProposalBoxes.from_json(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError):
        ProposalBoxes.from_json(tmp_path / "b.json")
    with pytest.raises(ValueError, match=r"expected poses with the 17 keypoints .*, got 14"):
        by_hand().sample(standing(CROWDPOSE), np.array([0.0, 0.0, 1.0, 1.0]), np.random.default_rng(0))
