"""``swahr score``: metrics of a results file, without a network."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swahr.analysis import fit_anatomy, pckh, visibility_metrics
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
    text = "add the share of keypoints found within half a head's size"
    parser.add_argument("--pckh", action="store_true", help=text)
    text = "add the metrics of visible and of occluded keypoints alone"
    parser.add_argument("--visibility", action="store_true", help=text)
    text = (
        "add the share of poses with limbs or joint angles that are not usual in these training annotations"
    )
    parser.add_argument("--anatomy", type=Path, metavar="ANNOTATIONS", help=text)
    or_fail("score", lambda: report(_metrics(parser.parse_args())))


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the files of a command about results, and whether to accept implausible annotations."""
    add_annotations(parser)
    parser.add_argument("--results", type=Path, required=True, help="COCO-format results, a JSON list")


def add_annotations(parser: argparse.ArgumentParser) -> None:
    """Add an annotation file, and whether to accept implausible annotations."""
    parser.add_argument("--annotations", type=Path, required=True, help="COCO-format JSON or JSON.gz")
    text = "use the annotations also where they are implausible (see `swahr check`)"
    parser.add_argument("--insist", action="store_true", help=text)


def read_annotations(path: Path, images: Path | None = None, *, insist: bool) -> CocoSource:
    """An annotation file; what is found in it is written to stderr."""
    source = CocoSource(annotations=path, images=images or path.parent, insist=insist)
    for text in (source.findings.summary(), *source.findings.errors, *source.findings.warnings):
        sys.stderr.write(f"{text}\n")
    return source


def _metrics(arguments: argparse.Namespace) -> dict[str, Any]:
    source = read_annotations(arguments.annotations, insist=arguments.insist)
    truth, skeleton = source.ground_truth(), source.skeleton
    evaluator = Evaluator(protocol=arguments.protocol, backend=arguments.backend)
    check_evaluable(evaluator, truth, skeleton)
    anatomy = None
    if arguments.anatomy is not None:
        training = read_annotations(arguments.anatomy, insist=arguments.insist)
        anatomy = fit_anatomy(training.ground_truth(), skeleton)
    results = read_results(arguments.results)
    metrics: dict[str, Any] = evaluator(truth, results, skeleton)
    if arguments.pckh:
        metrics["PCKh"] = asdict(pckh(truth, results, skeleton, protocol=arguments.protocol))
    if arguments.visibility:
        metrics |= visibility_metrics(truth, results, skeleton, evaluator=evaluator)
    if anatomy is not None:
        shares = {"found": anatomy.of_results(results), "annotated": anatomy.of_annotations(truth)}
        metrics["implausible"] = {name: asdict(one) for name, one in shares.items()}
    return metrics
