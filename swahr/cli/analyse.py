"""``swahr analyse``: what keeps the AP of a results file from being higher."""

import argparse
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swahr.analysis import ap_difference, ap_interval, diagnose
from swahr.analysis.diagnosis import Diagnosis
from swahr.analysis.page import analysis_page, draw_case
from swahr.analysis.summary import compare_images, summarise, worst_images
from swahr.cli.command import check_unused, fresh_folder, or_fail, report
from swahr.cli.problems import raise_problems
from swahr.cli.score import add_inputs, read_annotations
from swahr.data import CocoSource
from swahr.draw.palette import Picture
from swahr.evaluation import Evaluator, check_evaluable, read_results
from swahr.files import whole_file, write_json
from swahr.provenance import provenance


def analyse() -> None:
    """Write ``analysis.json`` and ``analysis.html``; print the main figures as one JSON object."""
    parser = argparse.ArgumentParser(
        prog="swahr analyse",
        description="Divides the errors of a results file into kinds (miss, swap, inversion, jitter, false "
        "and missed people), with the AP gained if each were mended; compares it with other results.",
        epilog="example: swahr analyse --annotations person_keypoints_val2017.json --results results.json "
        "--images val2017 --output analysis",
    )
    add_inputs(parser)
    parser.add_argument("--against", type=Path, help="other results on the same images, to compare with")
    parser.add_argument("--output", type=Path, required=True, help="a new folder for the JSON and the page")
    parser.add_argument("--images", type=Path, help="folder of the images, to draw the worst of them")
    parser.add_argument("--cases", type=int, default=12, help="how many of the worst images to list and draw")
    parser.add_argument("--protocol", choices=("coco", "crowdpose"), default="coco")
    parser.add_argument("--resamples", type=int, default=1000, help="of images, for 95 %% intervals")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    or_fail("analyse", lambda: _run(parser.parse_args()))


def _run(arguments: argparse.Namespace) -> None:
    check_unused(arguments.output)
    if arguments.images is not None and not arguments.images.is_dir():
        raise FileNotFoundError(
            f"--images {arguments.images}: expected a folder of images, but there is none; check the path"
        )
    source = read_annotations(arguments.annotations, arguments.images, insist=arguments.insist)
    analysis, diagnosis = _analysis(source, arguments)
    folder = fresh_folder(str(arguments.output))
    write_json(folder / "analysis.json", analysis)
    cases, problems = _pictures(source, diagnosis, analysis["worst"]) if arguments.images else ([], [])
    stamp = analysis["provenance"]
    footer = f"swahr {stamp['swahr']}, commit {stamp['commit']}, {stamp['time']}"
    title = f"Errors of {arguments.results.name} on {arguments.annotations.name}"
    with whole_file(folder / "analysis.html") as partial:
        partial.write_text(analysis_page(analysis, cases, title=title, footer=footer), encoding="utf-8")
    raise_problems(problems, summary=f"{len(problems)} images cannot be drawn", folder=folder)
    printed = {name: analysis[name] for name in ("metrics", "people", "keypoints")}
    report({"output": str(folder), **printed, "gains": {k: v["alone"] for k, v in analysis["gains"].items()}})


def _analysis(source: CocoSource, arguments: argparse.Namespace) -> tuple[dict[str, Any], Diagnosis]:
    truth, skeleton, protocol = source.ground_truth(), source.skeleton, arguments.protocol
    evaluator = Evaluator(protocol)
    check_evaluable(evaluator, truth, skeleton)
    results = read_results(arguments.results)
    others = None if arguments.against is None else read_results(arguments.against)
    diagnosis = diagnose(truth, results, skeleton, protocol=protocol)
    bootstrap = {"protocol": protocol, "resamples": arguments.resamples, "seed": arguments.seed}
    intervals = ap_interval(truth, results, skeleton, **bootstrap)
    files = {name: getattr(arguments, name) for name in ("annotations", "results", "against")}
    analysis = {
        "files": {name: _stamp(file) for name, file in files.items() if file is not None},
        **bootstrap,
        **summarise(diagnosis, evaluator),
        "intervals": {name: asdict(one) for name, one in intervals.items()},
        "worst": worst_images(diagnosis, arguments.cases),
        "provenance": provenance(seed=arguments.seed),
    }
    if others is not None:
        difference = ap_difference(truth, results, others, skeleton, **bootstrap)
        analysis["against"] = {
            "name": arguments.against.name,
            "metrics": evaluator(truth, others, skeleton),
            "difference": {name: asdict(one) for name, one in difference.items()},
            "images": compare_images(diagnosis, diagnose(truth, others, skeleton, protocol=protocol)),
        }
    return analysis, diagnosis


def _stamp(file: Path) -> dict[str, str]:
    """A file's name and content; results often have the same name in different folders."""
    return {"name": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _pictures(
    source: CocoSource, diagnosis: Diagnosis, worst: list[dict[str, Any]]
) -> tuple[list[tuple[str, Picture]], list[str]]:
    """Captions and pictures of the worst images, and what is wrong with those that cannot be read."""
    indices = {image["id"]: i for i, image in enumerate(source.ground_truth()["images"])}
    cases, problems = [], []
    for case in worst:
        counts = ", ".join(f"{n} {name}" for name, n in list(case.items())[3:])
        caption = f"{case['file_name']}: {case['lost']:.2f} OKS lost; {counts}"
        try:
            cases.append((caption, draw_case(diagnosis, source[indices[case["image_id"]]])))
        except (OSError, ValueError) as error:
            problems.append(str(error))
    return cases, problems
