"""``swahr score``: metrics of a results file, without a network."""

import argparse
import sys
from pathlib import Path

from swahr.cli.command import or_fail, report
from swahr.data import CocoSource
from swahr.evaluation import Evaluator, check_evaluable, read_results


def score() -> None:
    """Print the metrics of a results file as one JSON object."""
    parser = argparse.ArgumentParser(
        prog="swahr score",
        description="Prints the protocol's metrics of a results file as one JSON object.",
        epilog="example: swahr score --annotations person_keypoints_val2017.json --results results.json",
    )
    add_inputs(parser)
    parser.add_argument("--protocol", choices=("coco", "crowdpose"), default="coco")
    backends = ("faster-coco-eval", "pycocotools", "crowdposetools")
    text = "pycocotools and crowdposetools are the official implementations"
    parser.add_argument("--backend", choices=backends, default=backends[0], help=text)
    or_fail("score", lambda: report(_metrics(parser.parse_args())))


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the files of a command about results, and whether to accept implausible annotations."""
    parser.add_argument("--annotations", type=Path, required=True, help="COCO-format JSON or JSON.gz")
    parser.add_argument("--results", type=Path, required=True, help="COCO-format results, a JSON list")
    text = "use the annotations also where they are implausible (see `swahr check`)"
    parser.add_argument("--insist", action="store_true", help=text)


def read_annotations(path: Path, images: Path | None = None, *, insist: bool) -> CocoSource:
    """An annotation file; what is found in it is written to stderr."""
    source = CocoSource(annotations=path, images=images or path.parent, insist=insist)
    for text in (source.findings.summary(), *source.findings.errors, *source.findings.warnings):
        sys.stderr.write(f"{text}\n")
    return source


def _metrics(arguments: argparse.Namespace) -> dict[str, float]:
    source = read_annotations(arguments.annotations, insist=arguments.insist)
    truth = source.ground_truth()
    evaluator = Evaluator(protocol=arguments.protocol, backend=arguments.backend)
    check_evaluable(evaluator, truth, source.skeleton)
    return evaluator(truth, read_results(arguments.results), source.skeleton)
