"""Steps about one person at a time, after the bottom-up network."""

from swahr.second_stage.pose_nms import PoseNms
from swahr.second_stage.proposals import ProposalBoxes

__all__ = ["PoseNms", "ProposalBoxes"]
