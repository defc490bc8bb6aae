"""Steps about one person at a time, after the bottom-up network."""

from swahr.second_stage.pose_nms import PoseNms

__all__ = ["PoseNms"]
