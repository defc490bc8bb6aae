"""The whole of decoding, with loops over people and keypoints that read whole maps for each person."""

from __future__ import annotations

import numpy as np

from reference.grouping import group, mean_tag
from reference.peaks import find_peaks
from reference.recovery import best_pixel
from reference.subpixel import dark, modulated, quarter


def decode(heatmaps, tags, order, *, rule, plateaus, max_people, threshold, method, solver="scipy"):
    """Return the poses of one image, positions and scores (p k 3), and the people's scores (p). Frame: map.

    Args:
        heatmaps: tensor (k h w).
        tags: tensor (k h w t).
        order: keypoints in the order in which they are grouped.
        rule: ``official`` or ``gated``.
        plateaus: ``all`` or ``one`` of several equal neighbours are peaks.
        max_people: peaks kept per keypoint, and people matched by the official rule.
        threshold: heat above which a pixel can be a peak.
        method: ``quarter`` or ``dark``.
        solver: ``scipy`` or ``munkres``.
    """
    heat, tag_maps = heatmaps.cpu().numpy(), tags.cpu().numpy()
    peaks = [
        [
            (x + 0.5, y + 0.5, score, tag_maps[keypoint, y, x])
            for x, y, score in find_peaks(
                heatmap, max_people=max_people, threshold=threshold, plateaus=plateaus
            )
        ]
        for keypoint, heatmap in enumerate(heat)
    ]
    people = group(peaks, order, rule=rule, max_people=max_people, solver=solver)
    scores = np.array([person["peaks"][:, 2].mean() for person in people])
    refine(people, heat, method)
    for person in people:
        recover(person, heat, tag_maps)
    return np.array([person["peaks"] for person in people]).reshape(-1, len(heat), 3), scores


def refine(people, heatmaps, method):
    """Move every keypoint to a sub-pixel position, at most a pixel away."""
    blurred = [modulated(heatmap) for heatmap in heatmaps] if method == "dark" else None
    for person in people:
        for keypoint, (x, y, score) in enumerate(person["peaks"]):
            if score > 0:
                column, row = int(x), int(y)
                offset = None if blurred is None else dark(blurred[keypoint], column, row)
                if offset is None:
                    offset = quarter(heatmaps[keypoint], column, row)
                moved = np.array([column, row]) + 0.5 + np.clip(offset, -1, 1)
                person["peaks"][keypoint, :2] = moved


def recover(person, heatmaps, tags):
    """Fill in each missing keypoint at the hottest pixel that is tagged like the person."""
    wanted = mean_tag(person)
    for keypoint, heatmap in enumerate(heatmaps):
        x, y = best_pixel(heatmap, tags[keypoint], wanted)
        if person["peaks"][keypoint, 2] == 0 and heatmap[y, x] > 0:
            position = np.array([x, y]) + 0.5 + quarter(heatmap, x, y)
            person["peaks"][keypoint] = *position, heatmap[y, x]
