"""COCO's and CrowdPose's metrics, and results files."""

from swahr.evaluation.evaluator import Evaluator
from swahr.evaluation.results import poses_as_dataset, read_results, results_from_poses, write_results

__all__ = ["Evaluator", "poses_as_dataset", "read_results", "results_from_poses", "write_results"]
