"""``swahr fit-deformation``: offsets of keypoints along limbs, to choose a crop's keypoints together."""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse

from swahr.cli.command import check_unused, fresh_folder, or_fail, report
from swahr.cli.score import add_annotations, read_annotations
from swahr.data import CocoSource
from swahr.draw.figure import FAINT_INK, INK, add_footer, new_figure, render
from swahr.draw.palette import Picture
from swahr.files import write_json
from swahr.geometry import POINT_FROM_INDEX
from swahr.images import write_image
from swahr.provenance import provenance
from swahr.second_stage import (
    Deformation,
    deformation_to_dict,
    estimate_deformation,
    in_sides_of_crops,
    spanning_tree,
)
from swahr.second_stage.proposals import Poses2d
from swahr.skeleton import Skeleton

_COLUMNS = 6


def fit_deformation() -> None:
    """Write ``deformation.json`` and ``limbs.png``; print what they are made of as one JSON object."""
    parser = argparse.ArgumentParser(
        prog="swahr fit-deformation",
        description="Fits the offsets of keypoints from one another, along the limbs of annotated people, in "
        "sides of the second stage's crops; writes deformation.json and limbs.png.",
        epilog="example: swahr fit-deformation --annotations train.json --output deformation; then swahr "
        "evaluate checkpoint=first.safetensors second_stage=crops "
        "second_stage.checkpoint=person.safetensors second_stage.deformation=deformation/deformation.json",
    )
    add_annotations(parser)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    text = "height and width of the crops, second_stage.crop_size; only their ratio matters (default 256 192)"
    parser.add_argument("--crop-size", type=int, nargs=2, default=(256, 192), metavar=("H", "W"), help=text)
    text = "factor on the box of a person's keypoints, second_stage.enlarge (default 1.3)"
    parser.add_argument("--enlarge", type=float, default=1.3, help=text)
    or_fail("fit-deformation", lambda: report(_run(parser.parse_args())))


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    check_unused(arguments.output)
    crops: Any = {"crop_size": tuple(arguments.crop_size), "enlarge": arguments.enlarge}
    if min(arguments.crop_size) < 1 or not 0 < arguments.enlarge < math.inf:
        raise ValueError(f"expected --crop-size of at least 1 1 and --enlarge above 0, got {crops}")
    source = read_annotations(arguments.annotations, insist=arguments.insist)
    skeleton, people = source.skeleton, in_sides_of_crops(_people(source), **crops)
    present, tree = ~np.isnan(people).any(axis=2), spanning_tree(source.skeleton)
    deformation = estimate_deformation(people, present, tree)
    without = [skeleton.keypoints[child] for child in tree.order[1:] if not deformation.weight[child].any()]
    if len(without) == len(tree.order) - 1:
        raise ValueError(
            f"{arguments.annotations}: expected at least two people with both keypoints of a limb, but no "
            f"limb has them in {len(people)} people; use other annotations"
        )
    stamp = provenance(seed=None, files=[arguments.annotations])
    folder = fresh_folder(str(arguments.output))
    content = deformation_to_dict(deformation, skeleton, **crops)
    write_json(folder / "deformation.json", content | {"people": len(people), "provenance": stamp})
    footer = f"swahr {stamp['swahr']}, commit {stamp['commit']}, {stamp['time']}; in sides of the crop"
    h, w = arguments.crop_size
    write_image(folder / "limbs.png", draw_limbs(deformation, skeleton, aspect=h / w, footer=footer))
    return {"output": str(folder), "people": len(people), "without_cost": without}


def _people(source: CocoSource) -> Poses2d:
    """Annotated people with labelled keypoints, in continuous coordinates; NaN where a keypoint is absent."""
    people = [one["keypoints"] for one in source.ground_truth()["annotations"] if not one["iscrowd"]]
    triples = np.array(people, dtype=np.float64).reshape(-1, source.skeleton.num_keypoints, 3)
    labelled = triples[..., 2] > 0
    poses = np.where(labelled[..., None], POINT_FROM_INDEX.apply(triples[..., :2]), np.nan)
    return poses[labelled.any(axis=1)]


def draw_limbs(deformation: Deformation, skeleton: Skeleton, *, aspect: float, footer: str) -> Picture:
    """The mean offset along each limb, with ellipses of one and two deviations, in sides of the crop."""
    tree = spanning_tree(skeleton)
    children = tree.order[1:]
    columns = min(_COLUMNS, len(children))
    rows = -(-len(children) // columns)
    figure = new_figure(60 + 180 * columns, 40 + round((40 + 150 * aspect) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for one in axes[len(children) :]:
        one.set_axis_off()
    for one, child in zip(axes, children, strict=False):
        parent = skeleton.keypoints[tree.parents[child]]
        one.set_title(f"{skeleton.keypoints[child]}\nfrom {parent}", fontsize=8, parse_math=False)
        _draw_offset(one, deformation.rest[child], deformation.weight[child])
        one.set(xlim=(-0.6, 0.6), ylim=(0.6, -0.6), aspect=aspect)
        one.tick_params(labelsize=6)
    add_footer(figure, footer)
    return render(figure)


def _draw_offset(axes: Axes, rest: np.ndarray, weight: np.ndarray) -> None:
    """The parent is the origin; nothing more is drawn without a cost."""
    axes.plot(0, 0, "+", color=FAINT_INK)
    if not weight.any():
        return
    axes.plot([0, rest[0]], [0, rest[1]], color="#0072b2", linewidth=2)
    axes.plot(*rest, ".", color=INK, markersize=4)
    deviation = np.sqrt(1 / (2 * weight))
    for count in (1, 2):
        axes.add_patch(
            Ellipse(
                (float(rest[0]), float(rest[1])), *(2 * count * deviation), fill=False, edgecolor="#d55e00"
            )
        )
