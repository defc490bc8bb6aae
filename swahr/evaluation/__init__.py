"""Evaluation: COCO's and CrowdPose's figures, and results files."""

from swahr.evaluation.evaluator import Evaluator
from swahr.evaluation.results import read_results, results_from_poses, write_results

__all__ = ["Evaluator", "read_results", "results_from_poses", "write_results"]
