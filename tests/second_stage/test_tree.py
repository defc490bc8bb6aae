"""Spanning trees of skeletons, compared with trees drawn by hand."""

import logging

import pytest

from swahr.second_stage import KeypointTree, spanning_tree
from swahr.skeleton import COCO, CROWDPOSE, Skeleton


def parents_by_name(skeleton: Skeleton) -> dict[str, str | None]:
    parents = spanning_tree(skeleton).parents
    return {
        name: None if parent < 0 else skeleton.keypoints[parent]
        for name, parent in zip(skeleton.keypoints, parents, strict=True)
    }


def test_coco_by_hand() -> None:
    assert parents_by_name(COCO) == {
        "left_shoulder": None,
        "left_ear": "left_shoulder", "left_elbow": "left_shoulder", "left_hip": "left_shoulder",
        "right_shoulder": "left_shoulder",
        "left_eye": "left_ear", "left_wrist": "left_elbow", "left_knee": "left_hip", "right_hip": "left_hip",
        "right_ear": "right_shoulder", "right_elbow": "right_shoulder",
        "nose": "left_eye", "left_ankle": "left_knee", "right_knee": "right_hip", "right_eye": "right_ear",
        "right_wrist": "right_elbow", "right_ankle": "right_knee",
    }  # fmt: skip


def test_crowdpose_by_hand() -> None:
    assert parents_by_name(CROWDPOSE) == {
        "left_shoulder": None,
        "neck": "left_shoulder", "left_elbow": "left_shoulder", "left_hip": "left_shoulder",
        "right_shoulder": "left_shoulder",
        "head": "neck", "left_wrist": "left_elbow", "left_knee": "left_hip", "right_hip": "left_hip",
        "right_elbow": "right_shoulder", "right_wrist": "right_elbow",
        "left_ankle": "left_knee", "right_knee": "right_hip", "right_ankle": "right_knee",
    }  # fmt: skip


def test_nine_keypoints_and_their_levels() -> None:
    names = ("head", "neck", "lw", "rw", "lh", "rh", "tail", "la", "ra")
    limbs = (("head", "neck"), ("lw", "neck"), ("neck", "rw"), ("neck", "tail"), ("tail", "lh"),
             ("rh", "tail"), ("lh", "la"), ("rh", "ra"), ("la", "ra"), ("neck", "neck"))  # fmt: skip
    skeleton = Skeleton.from_dict({"keypoints": names, "limbs": limbs})
    assert spanning_tree(skeleton) == KeypointTree(
        parents=(1, -1, 1, 1, 6, 6, 1, 4, 5), levels=((1,), (0, 2, 3, 6), (4, 5), (7, 8))
    )
    assert spanning_tree(skeleton).order == (1, 0, 2, 3, 6, 4, 5, 7, 8)


def test_parts_without_limbs_are_joined_to_the_root(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    skeleton = Skeleton.from_dict(
        {"name": "parts", "keypoints": ["a", "b", "c", "d", "hip"], "limbs": [["a", "b"], ["hip", "c"]]}
    )
    assert spanning_tree(skeleton) == KeypointTree(
        parents=(4, 0, 4, 4, -1), levels=((4,), (2, 0, 3), (1,)), joined=(0, 3)
    )
    assert "skeleton 'parts': no limbs lead from hip to a, d; joined there" in caplog.text
    lone = Skeleton.from_dict({"keypoints": ["dot"]})
    assert spanning_tree(lone) == KeypointTree(parents=(-1,), levels=((0,),))
    loose = Skeleton.from_dict({"keypoints": ["x", "y", "z"]})
    assert spanning_tree(loose) == KeypointTree((-1, 0, 0), ((0,), (1, 2)), joined=(1, 2))


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE])
def test_every_keypoint_comes_after_its_parent(skeleton: Skeleton) -> None:
    tree = spanning_tree(skeleton)
    assert sorted(tree.order) == list(range(skeleton.num_keypoints))
    for keypoint, parent in enumerate(tree.parents):
        assert parent < 0 or tree.order.index(parent) < tree.order.index(keypoint)
        assert parent < 0 or (parent, keypoint) in {
            *skeleton.limb_indices,
            *(x[::-1] for x in skeleton.limb_indices),
        }
