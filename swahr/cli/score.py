"""``swahr score``: figures of a results file, without a network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from swahr.cli.command import report
from swahr.data import CocoSource
from swahr.evaluation import Evaluator, read_results


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="swahr score",
        description="Prints one JSON object: the protocol's figures of a results file.",
        epilog="example: swahr score --annotations person_keypoints_val2017.json --results results.json",
    )
    parser.add_argument("--annotations", type=Path, required=True, help="COCO-format JSON or JSON.gz")
    parser.add_argument("--results", type=Path, required=True, help="COCO-format results, a JSON list")
    parser.add_argument("--protocol", choices=("coco", "crowdpose"), default="coco")
    parser.add_argument(
        "--backend",
        choices=("faster-coco-eval", "pycocotools", "crowdposetools"),
        default="faster-coco-eval",
        help="pycocotools and crowdposetools are the official oracles",
    )
    arguments = parser.parse_args()
    try:
        source = CocoSource(annotations=arguments.annotations, images=arguments.annotations.parent)
        evaluator = Evaluator(protocol=arguments.protocol, backend=arguments.backend)
        report(evaluator(source.ground_truth(), read_results(arguments.results), source.skeleton))
    except (OSError, TypeError, ValueError) as error:
        sys.stderr.write(f"swahr score: error: {error}\n")
        raise SystemExit(1) from None
