"""Training of single-person networks; `tests/cli/test_second_stage.py` has whole runs."""

import numpy as np

from swahr.procedures.person import annotated_poses
from swahr.skeleton import COCO
from swahr.structures import ABSENT, OCCLUDED, Annotations


def test_annotated_people_as_poses():
    keypoints = np.arange(3 * 17 * 2, dtype=np.float64).reshape(3, 17, 2)
    visibility = np.full((3, 17), OCCLUDED)
    visibility[0, 4] = ABSENT
    visibility[1] = ABSENT
    poses = annotated_poses(Annotations(keypoints, visibility, np.ones(3)), COCO)
    assert len(poses) == 2
    assert np.isnan(poses.keypoints[0, 4]).all()
    assert np.array_equal(poses.keypoints[1], keypoints[2])
    assert poses.scores[0, 4] == 0 == poses.present[0, 4]
    assert poses.score.tolist() == [1, 1]
