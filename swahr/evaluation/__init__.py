"""COCO's and CrowdPose's metrics, and results files."""

from swahr.evaluation.evaluator import Evaluator, check_evaluable
from swahr.evaluation.results import poses_as_dataset, read_results, results_from_poses, write_results
from swahr.evaluation.tool_input import person_category

__all__ = [
    "Evaluator",
    "check_evaluable",
    "person_category",
    "poses_as_dataset",
    "read_results",
    "results_from_poses",
    "write_results",
]
