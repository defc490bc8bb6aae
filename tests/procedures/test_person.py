"""Training of single-person networks; `tests/cli/test_second_stage.py` has whole runs."""

import numpy as np
import pytest
from small_network import small_network

from swahr.decode import PixelCentre
from swahr.procedures.person import PersonModule, annotated_poses
from swahr.second_stage import ConditionedNetwork, PoseErrors, SecondStage
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


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("conditioned", [True, False])
def test_a_conditioned_network_and_conditions_belong_together(conditioned):
    network = small_network(17, heads=("heatmaps",))
    parts = dict.fromkeys(("encode_targets", "criterion", "pipeline", "evaluate", "optimiser"))

    def build(condition):
        stage = SecondStage(COCO, PixelCentre(), crop_size=64, condition=condition)
        chosen = ConditionedNetwork(network, 17) if conditioned else network
        return PersonModule(second_stage=stage, skeleton=COCO, network=chosen, batch_size=1, **parts)

    fitting, other = (PoseErrors(), None) if conditioned else (None, PoseErrors())
    build(fitting)
    names = r"ConditionedNetwork and NoneType" if conditioned else r"HigherHRNet and PoseErrors"
    with pytest.raises(ValueError, match=rf"expected a conditioned network together with .*, got {names}"):
        build(other)
