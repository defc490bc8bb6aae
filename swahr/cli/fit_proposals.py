"""``swahr fit-proposals``: the distribution of detected boxes around true ones, for training on crops."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from swahr.analysis.matching import match
from swahr.cli.command import check_unused, fresh_folder, or_fail, report
from swahr.cli.score import add_inputs, read_annotations
from swahr.draw.figure import FAINT_INK, INK, add_footer, new_figure, render
from swahr.draw.palette import Picture
from swahr.evaluation import read_results
from swahr.files import write_json
from swahr.geometry import POINT_FROM_INDEX
from swahr.images import write_image
from swahr.provenance import provenance
from swahr.second_stage.proposal_fit import fit_proposals as fit
from swahr.second_stage.proposals import Mixture, Poses2d, ProposalBoxes
from swahr.skeleton import Skeleton

_COLUMNS = 6
_RANGE = (-0.6, 1.6)  # of the figure, in sides of the true box


def fit_proposals() -> None:
    """Write ``proposals.json`` and ``atoms.png``; print what they are made of as one JSON object."""
    parser = argparse.ArgumentParser(
        prog="swahr fit-proposals",
        description="Fits how detected boxes differ from true ones, by atomic pose, to a results file on "
        "training images (pose-guided proposals of RMPE); writes proposals.json and atoms.png.",
        epilog="example: swahr fit-proposals --annotations train.json --results results.json "
        "--output proposals",
    )
    add_inputs(parser)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--atoms", type=int, default=8, help="how many atomic poses")
    parser.add_argument("--components", type=int, default=3, help="Gaussians per atom, at most")
    parser.add_argument("--oks", type=float, default=0.5, help="from which a person counts as detected")
    text = "detected keypoints with lower scores do not count for the box, as in conf/second_stage"
    parser.add_argument("--box-threshold", type=float, default=0.1, help=text)
    parser.add_argument("--seed", type=int, default=0)
    or_fail("fit-proposals", lambda: report(_run(parser.parse_args())))


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    check_unused(arguments.output)
    if not 0 < arguments.oks <= 1:
        raise ValueError(f"--oks {arguments.oks}: expected a number above 0, up to 1")
    source = read_annotations(arguments.annotations, insist=arguments.insist)
    results = read_results(arguments.results)
    limits = {name: getattr(arguments, name) for name in ("oks", "box_threshold")}
    pairs = _pairs(source.ground_truth(), results, source.skeleton, **limits)
    settings = {name: getattr(arguments, name) for name in ("atoms", "components", "seed")}
    boxes = fit(*pairs, source.skeleton, **settings)
    stamp = provenance(seed=arguments.seed, files=[arguments.annotations, arguments.results])
    folder = fresh_folder(str(arguments.output))
    write_json(
        folder / "proposals.json", boxes.to_dict() | {"settings": settings | limits, "provenance": stamp}
    )
    footer = f"swahr {stamp['swahr']}, commit {stamp['commit']}, {stamp['time']}"
    write_image(folder / "atoms.png", draw_atoms(boxes, source.skeleton, footer))
    found = {"matched": len(pairs[0]), "used": sum(mixture.pairs for mixture in boxes.mixtures)}
    return {"output": str(folder), **found, "atoms": [mixture.pairs for mixture in boxes.mixtures]}


def _pairs(
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    skeleton: Skeleton,
    *,
    oks: float,
    box_threshold: float,
) -> tuple[Poses2d, Poses2d]:
    """Annotated people who are detected with at least this OKS, and their detections."""
    matching = match(truth, results, skeleton, protocol="coco", thresholds=[oks])
    pairs = [
        (matching.people[int(person)], matching.detections[detection])
        for record in filter(None, matching.ranges[0])
        for detection, person, ignored in zip(
            record["dtIds"], record["dtMatches"][0], record["dtIgnore"][0], strict=True
        )
        if person and not ignored
    ]
    flat = np.array([[one["keypoints"] for one in pair] for pair in pairs], dtype=np.float64)
    people, found = flat.reshape(-1, 2, skeleton.num_keypoints, 3).swapaxes(0, 1)
    present = (found != 0).any(axis=2)
    sure = present & (found[..., 2] > box_threshold)
    counts = np.where(sure.any(axis=1, keepdims=True), sure, present)
    return _points(people, people[..., 2] > 0), _points(found, counts)


def _points(triples: np.ndarray, known: np.ndarray) -> Poses2d:
    """Continuous coordinates; NaN where a keypoint is not known."""
    return np.where(known[..., None], POINT_FROM_INDEX.apply(triples[..., :2]), np.nan)


def draw_atoms(boxes: ProposalBoxes, skeleton: Skeleton, footer: str) -> Picture:
    """Every atomic pose, and below it where its detected boxes begin and end, relative to the true box."""
    columns = min(_COLUMNS, len(boxes.atoms))
    rows = -(-len(boxes.atoms) // columns)
    figure = new_figure(60 + 180 * columns, 40 + 400 * rows, layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for one in axes.ravel():
        one.set_axis_off()
    total = sum(mixture.pairs for mixture in boxes.mixtures)
    for atom, (pose, mixture) in enumerate(zip(boxes.atoms, boxes.mixtures, strict=True)):
        row, column = divmod(atom, columns)
        title = f"atom {atom}: {mixture.pairs / total:.0%}"
        _draw_pose(axes[2 * row, column], pose, skeleton, title)
        _draw_offsets(axes[2 * row + 1, column], mixture)
    add_footer(figure, footer)
    return render(figure)


def _draw_pose(axes: Axes, pose: np.ndarray, skeleton: Skeleton, title: str) -> None:
    for limb in skeleton.limb_indices:
        axes.plot(*pose[list(limb)].T, color="#0072b2", linewidth=2)
    axes.plot(*pose.T, ".", color=INK, markersize=4)
    axes.set_title(title, fontsize=9)
    axes.set_aspect("equal")
    axes.invert_yaxis()


def _draw_offsets(axes: Axes, mixture: Mixture) -> None:
    """The densities of the upper left and the lower right corner; the grey square is the true box."""
    line = np.linspace(*_RANGE, 120)
    grid = np.stack(np.meshgrid(line, line), axis=-1)
    for corner, colours in ((slice(0, 2), "Oranges"), (slice(2, 4), "Blues")):
        origin = 0.0 if corner.start == 0 else 1.0
        density = _density(grid - origin, mixture, corner)
        levels = density.max() * np.array([0.05, 0.2, 0.5, 0.8, 1.0])
        axes.contourf(line, line, density, levels=levels, cmap=colours, alpha=0.8)
    axes.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], color=FAINT_INK, linewidth=1)
    axes.set(xlim=_RANGE, ylim=_RANGE[::-1], aspect="equal")
    axes.set_title(
        "detected corners: upper left (orange),\nlower right (blue); grey: the true box", fontsize=6.5
    )


def _density(points: np.ndarray, mixture: Mixture, corner: slice) -> np.ndarray:
    """The density of the offsets of one corner."""
    total = np.zeros(points.shape[:-1])
    for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
        part, away = covariance[corner, corner], points - mean[corner]
        distance = np.einsum("...i,ij,...j->...", away, np.linalg.inv(part), away)
        total += weight * np.exp(-distance / 2) / np.sqrt(np.linalg.det(part))
    return total
