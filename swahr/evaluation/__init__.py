"""Evaluation: COCO's and CrowdPose's figures, and results files."""

from swahr.evaluation.dataset import poses_as_dataset
from swahr.evaluation.evaluator import Evaluator
from swahr.evaluation.results import read_results, results_from_poses, write_results

__all__ = ["Evaluator", "poses_as_dataset", "read_results", "results_from_poses", "write_results"]
