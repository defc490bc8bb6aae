"""A self-contained HTML page of an analysis."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Literal

import cv2
import numpy as np

from swahr.analysis.diagnosis import KINDS, Diagnosis
from swahr.draw import draw_annotations, draw_poses
from swahr.draw.figure import new_figure, render
from swahr.draw.page import contact_sheet
from swahr.draw.palette import Picture
from swahr.geometry import POINT_FROM_INDEX
from swahr.structures import LabelledImage, Poses

_COLOURS = ("#009e73", "#56b4e9", "#e69f00", "#cc79a7", "#d55e00")  # of KINDS
_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1250px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.15em .8em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}th{border-bottom:1px solid #999}img{max-width:100%}"
)


def analysis_page(
    analysis: Mapping[str, Any], cases: Sequence[tuple[str, Picture]], *, title: str, footer: str
) -> str:
    """The page's text.

    Args:
        analysis: what `swahr analyse` writes as JSON.
        cases: captions and pictures of images.
        title: heading of the page.
        footer: small print, e.g. commit and time.
    """
    gains = analysis["gains"]
    names = [name for name in analysis["metrics"] if name.startswith("AP")]
    groups = {**analysis["by_size"], **analysis["by_crowding"]}
    parts = [
        f"<h1>{escape(title)}</h1>",
        _metrics_table(analysis),
        "<h2>Where keypoints go wrong</h2><p>Labelled keypoints of people who were found, by kind of error. "
        "Jitter: near the true position; inversion: near the mirrored keypoint; swap: near somebody else's; "
        "miss: near none of these.</p>",
        _inline(shares_figure(analysis), ".png"),
        _table(["", *KINDS], [[name, *row.values()] for name, row in analysis["by_keypoint"].items()]),
        "<h2>By person size and crowding</h2>",
        _table(
            ["", "people", "missed people", *KINDS], [[name, *row.values()] for name, row in groups.items()]
        ),
        "<h2>AP gained by mending</h2><p>Each kind alone, and with all kinds above it.</p>",
        _inline(gains_figure(analysis), ".png"),
        _table(
            ["alone", *names],
            [[kind, *(gain["alone"].get(name, "") for name in names)] for kind, gain in gains.items()],
        ),
        *_comparison(analysis.get("against")),
        *(["<h2>Worst images</h2>"] if cases else []),
        *(f"<p>{escape(caption)}</p>{_inline(picture, '.jpg')}" for caption, picture in cases),
        f"<p><small>{escape(footer)}</small></p>",
    ]
    head = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    return f"{head}<style>{_STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"


def draw_case(diagnosis: Diagnosis, labelled: LabelledImage) -> Picture:
    """The annotated people of an image, the detections that belong to them, and the others, side by side."""
    numbers = {image["id"]: i for i, image in enumerate(diagnosis.matching.images, start=1)}
    number, detections = numbers[labelled.image_id], diagnosis.matching.detections
    shown = [
        [detections[one] for one in ids if detections[one]["image_id"] == number]
        for ids in (diagnosis.owners, diagnosis.false_people)
    ]
    image = labelled.image
    pictures = [draw_annotations(image, labelled.annotations, diagnosis.skeleton)]
    pictures += [draw_poses(image, _poses(diagnosis, people)) for people in shown]
    counts = {
        "annotated people": len(labelled.annotations),
        "found people": len(shown[0]),
        "false people": len(shown[1]),
    }
    return contact_sheet(pictures, [f"{title}: {count}" for title, count in counts.items()], columns=3)


def _poses(diagnosis: Diagnosis, people: Sequence[Mapping[str, Any]]) -> Poses:
    """Poses to draw; three zeros are a missing keypoint."""
    triples = np.array([person["keypoints"] for person in people], dtype=np.float64)
    triples = triples.reshape(-1, diagnosis.skeleton.num_keypoints, 3)
    present = (triples != 0).any(axis=2)
    points = np.where(present[..., None], POINT_FROM_INDEX.apply(triples[..., :2]), np.nan)
    return Poses(points, present.astype(np.float64), np.ones(len(people)), present, diagnosis.skeleton)


def shares_figure(analysis: Mapping[str, Any]) -> Picture:
    """The share of each kind of error per keypoint, and of all keypoints."""
    rows = {"all keypoints": analysis["keypoints"], **analysis["by_keypoint"]}
    counts = np.array([[row[kind] for kind in KINDS] for row in rows.values()], dtype=np.float64)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = new_figure(900, 80 + 26 * len(rows), "constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(rows))
    for kind, colour, share in zip(KINDS, _COLOURS, shares.T, strict=True):
        axes.barh(list(rows), share, left=left, color=colour, label=kind)
        left += share
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="labelled keypoints of found people (%)")
    figure.legend(loc="outside upper center", ncols=len(KINDS), frameon=False)
    return render(figure)


def gains_figure(analysis: Mapping[str, Any]) -> Picture:
    """The AP gained by mending each kind of error, alone and cumulatively."""
    gains = analysis["gains"]
    figure = new_figure(900, 80 + 44 * len(gains), "constrained")
    axes = figure.add_subplot()
    places = np.arange(len(gains))
    for way, shift, colour in (("alone", -0.2, "#0072b2"), ("cumulative", 0.2, "#bbbbbb")):
        values = [100 * gain[way].get("AP", 0.0) for gain in gains.values()]
        axes.bar_label(
            axes.barh(places + shift, values, 0.38, color=colour, label=way), fmt="%.1f", padding=3
        )
    axes.set_yticks(places, list(gains))
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel(f"AP gained (points, on top of {100 * analysis['metrics']['AP']:.1f})")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return render(figure)


def _metrics_table(analysis: Mapping[str, Any]) -> str:
    people = " · ".join(f"{count} {name}" for name, count in analysis["people"].items())
    rows = [[name, one["value"], _bounds(one)] for name, one in analysis["intervals"].items()]
    return f"<p>People: {people}</p>" + _table(["", "value", "95 % interval"], rows)


def _comparison(against: Mapping[str, Any] | None) -> list[str]:
    if against is None:
        return []
    rows = [[name, one["value"], _bounds(one)] for name, one in against["difference"].items()]
    images = against["images"]
    return [
        f"<h2>Compared with {escape(against['name'])}</h2><p>Differences on the same images; intervals by a "
        f"paired bootstrap. More OKS in {images['better']} images, less in {images['worse']}, as much in "
        f"{images['equal']}.</p>",
        _table(["", "difference", "95 % interval"], rows),
        _table(["image", "file", "OKS gained"], [list(one.values()) for one in images["most"]]),
    ]


def _bounds(interval: Mapping[str, float]) -> str:
    return f"{interval['low']:.3f} to {interval['high']:.3f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [("th", header), *(("td", row) for row in rows)]
    cells = [
        "".join(
            f"<{tag}>{escape(f'{cell:.3f}' if isinstance(cell, float) else str(cell))}</{tag}>"
            for cell in row
        )
        for tag, row in lines
    ]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def _inline(picture: Picture, ending: Literal[".png", ".jpg"]) -> str:
    _, data = cv2.imencode(ending, picture[..., ::-1])
    kind = {".png": "png", ".jpg": "jpeg"}[ending]
    return f'<img alt="" src="data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}">'
