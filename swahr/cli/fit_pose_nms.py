"""``swahr fit-pose-nms``: the parameters of pose NMS with the highest AP of a results file."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Bool
from rich.console import Console
from rich.progress import Progress

from swahr.analysis.subset import SubsetAP
from swahr.cli.command import or_fail, report
from swahr.cli.score import add_inputs, read_annotations
from swahr.evaluation import Evaluator, check_evaluable, person_category, read_results
from swahr.files import whole_file
from swahr.geometry import POINT_FROM_INDEX
from swahr.provenance import provenance
from swahr.second_stage.pose_nms import PoseNms
from swahr.second_stage.pose_nms_fit import fit_pose_nms as search
from swahr.skeleton import Skeleton
from swahr.structures import Poses


def fit_pose_nms() -> None:
    """Write an option of the group ``postprocess``; print parameters and AP as one JSON object."""
    parser = argparse.ArgumentParser(
        prog="swahr fit-pose-nms",
        description="Searches the parameters of parametric pose NMS (RMPE) for the highest AP of a results "
        "file, which should be from a network without pose NMS, on data that no figures are quoted for.",
        epilog="example: swahr fit-pose-nms --annotations val.json --results results.json --output "
        "mine/postprocess/fitted.yaml; then swahr evaluate 'hydra.searchpath=[file://mine]' "
        "postprocess=fitted",
    )
    add_inputs(parser)
    parser.add_argument("--output", type=Path, required=True, help="a new YAML file")
    parser.add_argument("--test-annotations", type=Path, help="of other images, on which to report AP")
    parser.add_argument("--test-results", type=Path, help="results on these images")
    parser.add_argument("--protocol", choices=("coco", "crowdpose"), default="coco")
    parser.add_argument("--pixels", action="store_true", help="distances in pixels, as published")
    text = "choose also how many keypoints within the box eliminate a pose, however unsure they are"
    parser.add_argument("--matched", action="store_true", help=text)
    or_fail("fit-pose-nms", lambda: report(_run(parser.parse_args())))


@dataclass(frozen=True, eq=False)
class Split:
    """Annotations of some images, the results of people's category, image by image, and the same as poses."""

    truth: Mapping[str, Any]
    results: list[dict[str, Any]]
    skeleton: Skeleton
    evaluator: Evaluator
    poses: list[Poses]

    @classmethod
    def read(cls, annotations: Path, results: Path, protocol: Any, *, insist: bool) -> "Split":
        """Read and check both files."""
        source = read_annotations(annotations, insist=insist)
        truth, skeleton, evaluator = source.ground_truth(), source.skeleton, Evaluator(protocol)
        check_evaluable(evaluator, truth, skeleton)
        found = read_results(results)
        evaluator(truth, found, skeleton)  # checks that they belong to the annotations
        category = str(person_category(truth, skeleton))
        by_image: dict[int, list[dict[str, Any]]] = {}
        for result in found:
            if str(result["category_id"]) == category:
                by_image.setdefault(result["image_id"], []).append(result)
        if not by_image:
            raise ValueError(f"{results}: expected people, got none; predict with a lower threshold")
        poses = [poses_of(own, skeleton) for own in by_image.values()]
        people = [result for own in by_image.values() for result in own]
        return cls(truth, people, skeleton, evaluator, poses)

    def average_precision(self, keep: Bool[np.ndarray, " p"]) -> float:
        """AP without the people who are not kept."""
        kept = [result for result, is_kept in zip(self.results, keep, strict=True) if is_kept]
        return self.evaluator(self.truth, kept, self.skeleton)["AP"]


def poses_of(results: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> Poses:
    """One image's results as poses; three zeros are a missing keypoint, as `results_from_poses` writes it."""
    triples = np.array([result["keypoints"] for result in results], dtype=np.float64)
    triples = triples.reshape(-1, skeleton.num_keypoints, 3)
    present = (triples != 0).any(axis=2)
    return Poses(
        keypoints=np.where(present[..., None], POINT_FROM_INDEX.apply(triples[..., :2]), np.nan),
        scores=np.where(present, triples[..., 2], 0.0),
        score=np.array([result["score"] for result in results], dtype=np.float64),
        present=present,
        skeleton=skeleton,
    )


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    check_new_file(arguments.output, ".yaml")
    tests = arguments.test_annotations, arguments.test_results
    if (tests[0] is None) != (tests[1] is None):
        raise ValueError(
            "expected both --test-annotations and --test-results, got one of them; add the other"
        )
    given = {"protocol": arguments.protocol, "insist": arguments.insist}
    split = Split.read(arguments.annotations, arguments.results, **given)
    test = Split.read(*tests, **given) if tests[0] is not None else None
    if test is not None and test.skeleton.keypoints != split.skeleton.keypoints:
        raise ValueError(
            f"--test-annotations {tests[0]}: expected the keypoints {list(split.skeleton.keypoints)}, got "
            f"{list(test.skeleton.keypoints)}; use another split of the same data"
        )
    start = PoseNms(sigma_distance=100.0, relative=False) if arguments.pixels else PoseNms()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("searching", total=None)
        rule = search(
            start, split.poses,
            SubsetAP(split.truth, split.results, split.skeleton, arguments.protocol),
            matched=arguments.matched, tick=lambda _: progress.advance(task),
        ).rule  # fmt: skip
    found: dict[str, Any] = {"parameters": rule.settings(), **_effect(rule, split)}
    if test is not None:
        found |= {f"test_{name}": value for name, value in _effect(rule, test).items()}
    files = [file for file in (arguments.annotations, arguments.results, *tests) if file is not None]
    _write(arguments.output, rule, found | {"provenance": provenance(seed=None, files=files)})
    return {"output": str(arguments.output), **found}


def _effect(rule: PoseNms, split: Split) -> dict[str, dict[str, float]]:
    """AP, by the evaluator, and the number of people, before and after pose NMS."""
    keep = rule.keep(rule.compare(split.poses))
    masks = {"before": np.ones_like(keep), "after": keep}
    return {
        "AP": {name: split.average_precision(mask) for name, mask in masks.items()},
        "people": {name: int(mask.sum()) for name, mask in masks.items()},
    }


def check_new_file(path: Path, suffix: str) -> None:
    """Raise an error, before anything is computed, if a file of this kind cannot be made at ``path``.

    Raises:
        FileExistsError: there is one already.
        ValueError: its name has another ending.
    """
    if path.suffix != suffix:
        raise ValueError(f"--output {path}: expected a name ending in {suffix}, got '{path.name}'; rename it")
    if path.exists():
        raise FileExistsError(f"--output {path} exists already; choose another name, or remove it")


def _write(path: Path, rule: PoseNms, stamp: Mapping[str, Any]) -> None:
    """An option of the group ``postprocess``, with where it comes from as a comment."""
    settings = {"_target_": "swahr.second_stage.PoseNms", **rule.settings()}
    node = yaml.safe_dump({"pose_nms": settings}, sort_keys=False)
    lines = json.dumps({name: value for name, value in stamp.items() if name != "parameters"}, indent=1)
    comment = "".join(f"# {line}\n" for line in ("By swahr fit-pose-nms:", *lines.splitlines()))
    with whole_file(path) as partial:
        partial.write_text(comment + node, encoding="utf-8")
