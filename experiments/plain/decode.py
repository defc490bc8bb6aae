"""Decoding as it is usually written: loops over people and keypoints, and whole maps for each person.

What `swahr benchmark` compares the decoder with. Newell et al., Associative Embedding, 2017; HigherHRNet's
test-time refinement; DARK (Zhang et al., CVPR 2020), with the safeguards of `swahr.decode`. Frame: map.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch.nn.functional as F

from swahr.grouping.munkres import munkres_pairs

FAR = 1e10


def decode(heatmaps, tags, order, *, rule, plateaus, max_people, threshold, method):
    """Poses of one image: positions and scores (p k 3), and the people's scores (p).

    Args:
        heatmaps: tensor (k h w).
        tags: tensor (k h w t).
        order: keypoints in the order in which they are grouped.
        rule: ``official`` or ``gated``.
        plateaus: ``all`` or ``one`` of several equal neighbours are peaks.
        max_people: peaks kept per keypoint, and people matched by the official rule.
        threshold: heat above which a pixel can be a peak.
        method: ``quarter`` or ``dark``.
    """
    peaks = find_peaks(heatmaps, tags, max_people, threshold, plateaus)
    people = group(peaks, order, rule, max_people)
    heat, tag_maps = heatmaps.cpu().numpy(), tags.cpu().numpy()
    scores = np.array([person["peaks"][:, 2].mean() for person in people])
    refine(people, heat, method)
    for person in people:
        recover(person, heat, tag_maps)
    return np.array([person["peaks"] for person in people]).reshape(-1, len(heat), 3), scores


def find_peaks(heatmaps, tags, max_people, threshold, plateaus):
    """For each keypoint a list of (x, y, score, tag), best first."""
    is_peak = heatmaps == F.max_pool2d(heatmaps[None], 5, stride=1, padding=2)[0]
    scores, index = (heatmaps * is_peak).flatten(1).topk(max_people, dim=1)
    h, w = heatmaps.shape[1:]
    peaks = []
    for keypoint in range(len(heatmaps)):
        found = []
        for score, place in zip(scores[keypoint].tolist(), index[keypoint].tolist(), strict=True):
            y, x = divmod(place, w)
            equal = [
                (near_y, near_x)
                for near_y in range(max(0, y - 2), min(h, y + 3))
                for near_x in range(max(0, x - 2), min(w, x + 3))
                if is_peak[keypoint, near_y, near_x] and heatmaps[keypoint, near_y, near_x] == score
            ]
            if score > threshold and (plateaus == "all" or (y, x) == min(equal)):
                found.append((x, y, score, tags[keypoint, y, x].cpu().numpy()))
        peaks.append(found)
    return peaks


def group(peaks, order, rule, max_people):
    """People as dicts of their peaks (k 3), the tags that were assigned to them, and those by keypoint."""
    people = []
    for keypoint in order:
        candidates = peaks[keypoint]
        matched = people[:max_people] if rule == "official" else people
        owners = match(candidates, matched, rule) if candidates and matched else {}
        for number, (x, y, score, tag) in enumerate(candidates):
            person = owners.get(number)
            if person is None:
                person = found_person(people, tag, len(peaks), rule)
            person["peaks"][keypoint] = x + 0.5, y + 0.5, score
            person["tags"].append(tag)
            person["by_keypoint"][keypoint] = tag
    return people


def found_person(people, tag, keypoints, rule):
    """A person to put a peak into that matched nobody."""
    if rule == "official":
        for person in people:
            if person["tags"][0][0] == tag[0]:
                person["tags"] = []
                return person
    people.append({"peaks": np.zeros((keypoints, 3)), "tags": [], "by_keypoint": {}})
    return people[-1]


def match(candidates, people, rule):
    """Which candidate joins which person: the least total cost, pairs of distance below 1 only."""
    means = [np.mean(person["tags"], axis=0) for person in people]
    distance = [
        [float(np.linalg.norm(tag.astype(np.float64) - mean)) for mean in means] for *_, tag in candidates
    ]
    cost = []
    for row, (_, _, score, _) in zip(distance, candidates, strict=True):
        costs = [FAR if rule == "gated" and d >= 1 else 100 * np.round(d) - score for d in row]
        cost.append(costs + [FAR] * max(0, len(candidates) - len(people)))
    pairs = munkres_pairs(np.asarray(cost, np.float64))
    return {i: people[j] for i, j in pairs if j < len(people) and distance[i][j] < 1}


def refine(people, heatmaps, method):
    """Move every keypoint to a sub-pixel position."""
    blurred = (
        [cv2.GaussianBlur(np.pad(heat, 5), (11, 11), 2.0)[5:-5, 5:-5] for heat in heatmaps]
        if method == "dark"
        else None
    )
    for person in people:
        for keypoint, (x, y, score) in enumerate(person["peaks"]):
            if score > 0:
                cell = int(x), int(y)
                offset = quarter(heatmaps[keypoint], *cell)
                if blurred is not None:
                    offset = dark(blurred[keypoint], *cell, fallback=offset)
                person["peaks"][keypoint, :2] = cell[0] + 0.5 + offset[0], cell[1] + 0.5 + offset[1]


def quarter(heat, x, y):
    """A quarter of a pixel towards the higher neighbour."""
    h, w = heat.shape
    right = heat[y, min(x + 1, w - 1)] > heat[y, max(x - 1, 0)]
    below = heat[min(y + 1, h - 1), x] > heat[max(y - 1, 0), x]
    return (0.25 if right else -0.25), (0.25 if below else -0.25)


def dark(blurred, x, y, fallback):
    """The maximum of a Gaussian fitted to a blurred map, at most a pixel away."""
    h, w = blurred.shape
    if not (2 <= x < w - 2 and 2 <= y < h - 2):
        return fallback
    p = np.log(np.maximum(blurred[y - 2 : y + 3, x - 2 : x + 3].astype(np.float64), 1e-10))
    gradient = np.array([p[2, 3] - p[2, 1], p[3, 2] - p[1, 2]]) / 2
    xx, yy = (p[2, 4] - 2 * p[2, 2] + p[2, 0]) / 4, (p[4, 2] - 2 * p[2, 2] + p[0, 2]) / 4
    xy = (p[3, 3] - p[1, 3] - p[3, 1] + p[1, 1]) / 4
    hessian = np.array([[xx, xy], [xy, yy]])
    if np.linalg.det(hessian) <= 0 or xx >= 0:
        return fallback
    return np.clip(-np.linalg.solve(hessian, gradient), -1, 1)


def recover(person, heatmaps, tags):
    """Give each missing keypoint the hottest place that is tagged like the person: whole maps, each time."""
    own = [person["by_keypoint"][keypoint] for keypoint in sorted(person["by_keypoint"])]
    mean = np.mean(own, axis=0)
    h, w = heatmaps.shape[1:]
    for keypoint in range(len(heatmaps)):
        distance = np.round(np.sqrt(((tags[keypoint] - mean) ** 2).sum(axis=2)))
        y, x = np.unravel_index(np.argmax(heatmaps[keypoint] - distance), (h, w))
        if person["peaks"][keypoint, 2] == 0 and heatmaps[keypoint, y, x] > 0:
            offset = quarter(heatmaps[keypoint], x, y)
            person["peaks"][keypoint] = x + 0.5 + offset[0], y + 0.5 + offset[1], heatmaps[keypoint, y, x]
