"""Skeletons: the known ones, those of files, and what is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from swahr.skeleton import COCO, CROWDPOSE, Skeleton

KNOWN = [COCO, CROWDPOSE]
PUBLISHED_LIMBS = [  # in COCO's files; CrowdPose's files have the first twelve
    [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10],
    [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
]  # fmt: skip


@pytest.mark.parametrize("skeleton", KNOWN, ids=lambda skeleton: skeleton.name)
def test_known_skeletons_are_sound(skeleton: Skeleton) -> None:
    permutation = skeleton.flip_permutation
    assert [permutation[i] for i in permutation] == list(range(skeleton.num_keypoints))
    for name, partner in zip(skeleton.keypoints, permutation, strict=True):
        swapped = {"left": "right", "right": "left"}
        side, _, part = name.partition("_")
        assert skeleton.keypoints[partner] == (f"{swapped[side]}_{part}" if side in swapped else name)
    assert sorted(skeleton.grouping_indices) == list(range(skeleton.num_keypoints))
    touched = {name for limb in skeleton.limbs for name in limb}
    assert touched == set(skeleton.keypoints)
    mirrored = {frozenset(skeleton.keypoints[permutation[i]] for i in limb) for limb in skeleton.limb_indices}
    assert mirrored == {frozenset(limb) for limb in skeleton.limbs}


def test_coco_facts() -> None:
    assert COCO.num_keypoints == 17
    assert COCO.keypoints[:3] == ("nose", "left_eye", "right_eye")
    assert COCO.grouping_indices == (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
    published = [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]
    assert [round(1000 * sigma) for sigma in COCO.sigmas] == published
    assert COCO.flip_permutation == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)


def test_crowdpose_facts() -> None:
    assert CROWDPOSE.num_keypoints == 14
    assert CROWDPOSE.keypoints[-2:] == ("head", "neck")
    assert CROWDPOSE.grouping_indices == (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13)
    published = [79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89, 79, 79]
    assert [round(1000 * sigma) for sigma in CROWDPOSE.sigmas] == published
    assert CROWDPOSE.flip_permutation == (1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13)


@pytest.mark.parametrize("skeleton", KNOWN, ids=lambda skeleton: skeleton.name)
def test_plain_values_and_back(skeleton: Skeleton) -> None:
    assert Skeleton.from_dict(skeleton.to_dict()) == skeleton


HAND = ("wrist", "thumb_base", "thumb_tip", "left_mark", "right_mark")


def test_defaults_by_name() -> None:
    hand = Skeleton.from_dict(
        {"keypoints": HAND, "limbs": [("thumb_base", "thumb_tip"), ("thumb_base", "wrist")]}
    )
    assert hand.flip_pairs == (("left_mark", "right_mark"),)
    assert hand.flip_permutation == (0, 1, 2, 4, 3)
    assert hand.limb_indices == ((1, 2), (1, 0))
    assert hand.grouping_order == ("thumb_base", "thumb_tip", "wrist", "left_mark", "right_mark")
    assert hand.sigmas[0] == 0.062
    assert len(set(hand.sigmas[1:])) == 1


def test_left_without_right_is_its_own_mirror_image() -> None:
    assert Skeleton.from_dict({"keypoints": ["left_eye", "nose"]}).flip_permutation == (0, 1)


def test_grouping_starts_at_the_torso() -> None:
    names = ["head", "pelvis", "knee", "spine"]
    limbs = [("head", "spine"), ("spine", "pelvis"), ("pelvis", "knee")]
    skeleton = Skeleton.from_dict({"keypoints": names, "limbs": limbs})
    assert skeleton.grouping_order == ("pelvis", "spine", "knee", "head")


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "hand.yaml"
    path.write_text("keypoints: [wrist, tip]\nlimbs: [[wrist, tip]]\nsigmas: [0.1, 0.2]\n")
    hand = Skeleton.from_yaml(path)
    assert (hand.name, hand.keypoints, hand.limbs) == ("hand", ("wrist", "tip"), (("wrist", "tip"),))
    assert hand.sigmas == (0.1, 0.2)


def test_bad_yaml(tmp_path: Path) -> None:
    path = tmp_path / "hand.yaml"
    path.write_text("- wrist\n")
    with pytest.raises(TypeError, match=r"hand\.yaml: expected a YAML mapping with 'keypoints', got list"):
        Skeleton.from_yaml(path)
    path.write_text("joints: [wrist]\n")
    with pytest.raises(ValueError, match=r"hand\.yaml: unknown keys \['joints'\]"):
        Skeleton.from_yaml(path)
    path.write_text("keypoints: [wrist\n")
    with pytest.raises(ValueError, match=r"hand\.yaml: expected YAML, but it does not parse"):
        Skeleton.from_yaml(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("keypoints", "ab"),
        ("keypoints", [["a"], "b"]),
        ("keypoints", ["a", True]),
        ("keypoints", {"a": 1}),
        ("limbs", ["ab"]),
        ("limbs", [["a"]]),
        ("limbs", "ab"),
        ("flip_pairs", {"a": "b"}),
        ("flip_pairs", [1]),
        ("sigmas", 0.1),
        ("sigmas", [0.1, None]),
        ("sigmas", [0.1, 10**400]),
        ("sigmas", [0.26, 1.07]),  # ten times COCO's
        ("sigmas", ["0.1", "0.2"]),
        ("grouping_order", "ab"),
    ],
)
def test_malformed_values(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"mine: expected .*'{field}'"):
        Skeleton.from_dict({"keypoints": ["a", "b"], field: value}, source="mine")


@pytest.mark.parametrize("skeleton", KNOWN, ids=lambda skeleton: skeleton.name)
def test_category_of_a_known_skeleton(skeleton: Skeleton) -> None:
    category = {"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}
    for limbs in ([], None, PUBLISHED_LIMBS if skeleton is COCO else PUBLISHED_LIMBS[:12]):
        assert Skeleton.from_category({**category, "skeleton": limbs}) is skeleton
    assert Skeleton.from_category(category) is skeleton
    assert Skeleton.from_category(skeleton.to_category()) is skeleton
    unordered = {
        "skeleton": [[b + 1, a + 1] for a, b in reversed(skeleton.limb_indices)],
        "flip_pairs": [[right, left] for left, right in reversed(skeleton.flip_pairs)],
    }
    assert Skeleton.from_category({**category, **unordered}) is skeleton


CHANGES = {
    "sigmas": [0.05] * 14,
    "flip_pairs": [["left_shoulder", "right_shoulder"]],
    "grouping_order": list(reversed(CROWDPOSE.keypoints)),
    "skeleton": [["head", "neck"], [13, 1]],
}


@pytest.mark.parametrize("field", CHANGES)
def test_details_of_a_known_skeleton_in_a_category(field: str) -> None:
    category = {"name": "person", "keypoints": list(CROWDPOSE.keypoints), field: CHANGES[field]}
    skeleton = Skeleton.from_category(category)
    changed = {**CROWDPOSE.to_dict(), "name": "person"}
    if field == "skeleton":
        changed["limbs"] = (("head", "neck"), ("head", "left_shoulder"))
    else:
        changed[field] = CHANGES[field]
    assert skeleton == Skeleton.from_dict(changed)
    assert Skeleton.from_category(skeleton.to_category()) == skeleton
    # With the limbs that CrowdPose's files have, the rest counts as well.
    if field != "skeleton":
        assert Skeleton.from_category({**category, "skeleton": PUBLISHED_LIMBS[:12]}) == skeleton


def test_other_limbs_outside_the_keypoints_of_crowdpose() -> None:
    with pytest.raises(ValueError, match="1-based index pairs up to 14"):
        Skeleton.from_category({"keypoints": list(CROWDPOSE.keypoints), "skeleton": [[1, 15]]})


@pytest.mark.parametrize(
    "pair",
    [
        "Left Eye|Right Eye",
        "LeftEye|RightEye",
        "L_Eye|R_Eye",
        "eye_l|eye_r",
        "eye-L|eye-R",
        "EyeLeft|EyeRight",
        "LEye|REye",
        "LEFT_EYE|RIGHT_EYE",
        "lefteye|righteye",
        "eye.l|eye.r",
        "leftEye|rightEye",
        "eye [L]|eye [R]",
        "eye (left)|eye (right)",
        "eyeleft|eyeright",
        "left/eye|right/eye",
        "LEFTEYE|RIGHTEYE",
        "eye:l|eye:r",
    ],
)
def test_sides_in_any_spelling(pair: str) -> None:
    left, right = pair.split("|")
    skeleton = Skeleton.from_dict({"keypoints": [right, "Nose", left]})
    assert skeleton.flip_pairs == ((left, right),)
    assert skeleton.sigmas == (0.025, 0.026, 0.025)
    assert skeleton.lone_sides() == skeleton.lone_sides(letters=True) == ()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_hind_left_toe", "right_hind_right_toe"),
        ("left_hind_right_toe", "right_hind_left_toe"),
        ("LBigToe", "RBigToe"),
        ("left_eye_1", "right_eye_1"),
        ("leftEye2", "rightEye2"),
        ("thumbleft", "thumbright"),
    ],
)
def test_words_must_agree(left: str, right: str) -> None:
    others = ["left_hind_toe", "left_eye", "left_eye_3", "big_toe", "thumb"]
    assert Skeleton.from_dict({"keypoints": [*others, left, right]}).flip_pairs == ((left, right),)


def test_ambiguous_sides_are_no_pairs() -> None:
    names = ["left_eye", "Left Eye", "right_eye", "left_ear", "right_ear"]
    skeleton = Skeleton.from_dict({"keypoints": names})
    assert skeleton.flip_pairs == (("left_ear", "right_ear"),)
    assert skeleton.lone_sides() == ("left_eye", "Left Eye", "right_eye")


def test_keypoints_that_look_sided_and_have_no_partner() -> None:
    names = ["left_eye", "right_ear", "L5", "upright", "bright", "cleft", "eye_l", "eye_r", "lip", "tail"]
    skeleton = Skeleton.from_dict({"keypoints": names})
    assert skeleton.lone_sides() == ("left_eye", "right_ear")
    assert skeleton.lone_sides(letters=True) == ("L5",)
    unpaired = dataclasses.replace(skeleton, flip_pairs=())
    assert unpaired.lone_sides(letters=True) == ("L5", "eye_l", "eye_r")


def test_the_torso_in_capitals() -> None:
    names = ["Head", "LeftHip", "RightHip"]
    assert Skeleton.from_dict({"keypoints": names}).grouping_order == ("LeftHip", "RightHip", "Head")


def test_category_of_another_skeleton() -> None:
    category = {
        "id": 1,
        "name": "hand",
        "keypoints": ["wrist", "tip"],
        "skeleton": [[1, 2]],
        "sigmas": [0.1, 0.2],
    }
    hand = Skeleton.from_category(category)
    assert (hand.name, hand.limbs, hand.sigmas) == ("hand", (("wrist", "tip"),), (0.1, 0.2))


@pytest.mark.parametrize("limb", [[0, 1], [1, 3], [1], ["a", "c"], [1, 1.5], 1, "ab", [1, None], {"a": "b"}])
def test_category_with_limbs_outside(limb: Any) -> None:
    with pytest.raises(ValueError, match=r"file\.json: .*1-based ind"):
        Skeleton.from_category({"keypoints": ["a", "b"], "skeleton": [limb]}, source="file.json")


def test_limbs_of_unknown_keypoints() -> None:
    with pytest.raises(ValueError, match=r"limbs name \['c'\]"):
        Skeleton.from_dict({"keypoints": ["a", "b"], "limbs": [["a", "c"], ["b", "a"]]})


@pytest.mark.parametrize("keypoints", [None, [], ()])
def test_category_without_names(keypoints: Any) -> None:
    with pytest.raises(ValueError, match="expected a list 'keypoints' of names"):
        Skeleton.from_category({"keypoints": keypoints})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": ("nose",) * 17}, "distinct keypoint names"),
        ({"keypoints": ()}, "distinct keypoint names"),
        ({"flip_pairs": (("nose", "tail"),)}, r"flip_pairs name \['tail'\].*correct the names"),
        ({"limbs": (("nose", "tail"),)}, r"limbs name \['tail'\]"),
        ({"flip_pairs": (("left_eye", "right_eye"), ("left_eye", "right_ear"))}, "two flip pairs"),
        ({"sigmas": (0.1,) * 16}, "expected 17 positive sigmas"),
        ({"sigmas": (0.1,) * 16 + (0.0,)}, "expected 17 positive sigmas"),
        ({"sigmas": (0.1,) * 16 + (float("nan"),)}, "expected 17 positive sigmas"),
        ({"grouping_order": COCO.keypoints[1:]}, "must name every keypoint once"),
    ],
)
def test_inconsistent_skeleton(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(COCO, **changes)
