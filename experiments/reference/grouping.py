"""Associative embedding, peak by peak. Newell et al., 2017, section 3.3, and HigherHRNet's published code."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

FAR = 1e10


def group(peaks, order, *, rule="gated", max_people=30, tag_threshold=1.0, use_score=True, solver="scipy"):
    """Return the people of an image as a list of dicts, in order of discovery.

    A person's ``peaks`` (k 3) are (x, y, score) as given, score 0 where one is missing; ``by_keypoint`` holds
    the tag of each peak, and ``tags`` those that make up the mean tag while people are assembled.

    Args:
        peaks: for each of the k keypoints a list of (x, y, score, tag), best first; a tag is an array (t).
        order: keypoints in the order in which they are visited.
        rule: ``gated``: pairs at ``tag_threshold`` or beyond cannot be matched. ``official``: they are
            rejected after the assignment, only the first ``max_people`` people are matched, and a peak
            without a match whose first tag component is that of a founding tag joins the person founded with
            it, whose mean starts again.
        max_people: people that the official rule matches.
        tag_threshold: a peak may join a person whose mean tag is nearer than this.
        use_score: cost 100 round(distance) - score; otherwise the distance.
        solver: ``scipy`` or ``munkres``, the package of version 1.x.
    """
    people = []
    for keypoint in order:
        candidates = peaks[keypoint]
        matched = people[:max_people] if rule == "official" else people
        owners = {}
        if candidates and matched:
            distance = tag_distances(candidates, matched)
            cost = costs(distance, candidates, rule == "gated", tag_threshold, use_score)
            for i, j in assign(cost, solver):
                if j < len(matched) and distance[i, j] < tag_threshold:
                    owners[i] = matched[j]
        for i, (x, y, score, tag) in enumerate(candidates):
            person = owners[i] if i in owners else find_or_found(people, tag, len(peaks), rule)
            person["peaks"][keypoint] = x, y, score
            person["tags"].append(tag)
            person["by_keypoint"][keypoint] = tag
    return people


def find_or_found(people, tag, keypoints, rule):
    """Return the person that a peak without a match goes to."""
    if rule == "official":
        for person in people:
            if person["founding_tag"] == tag[0]:
                person["tags"] = []
                return person
    people.append(
        {"peaks": np.zeros((keypoints, 3)), "tags": [], "by_keypoint": {}, "founding_tag": float(tag[0])}
    )
    return people[-1]


def tag_distances(candidates, people):
    """Return the distance of each candidate's tag from each person's mean tag (c p)."""
    means = [np.mean(person["tags"], axis=0) for person in people]
    return np.array(
        [[np.linalg.norm(tag.astype(np.float64) - mean) for mean in means] for *_, tag in candidates]
    )


def costs(distance, candidates, gated, tag_threshold, use_score):
    """Return the cost of each pair (c p), padded with prohibitive columns to at least c columns."""
    rows = []
    for row, (_, _, score, _) in zip(distance, candidates, strict=True):
        cost = [100 * np.round(d) - score if use_score else d for d in row]
        if gated:
            cost = [FAR if d >= tag_threshold else c for c, d in zip(cost, row, strict=True)]
        rows.append(cost + [FAR] * max(0, len(candidates) - len(row)))
    return np.array(rows, dtype=np.float64)


def assign(cost, solver):
    """Return pairs (row, column) of minimum total cost."""
    if solver == "munkres":
        from munkres import Munkres

        return Munkres().compute(cost.tolist())
    return list(zip(*(part.tolist() for part in linear_sum_assignment(cost)), strict=True))


def mean_tag(person):
    """Return the mean tag (t) of a finished person's peaks."""
    return np.mean([person["by_keypoint"][k] for k in sorted(person["by_keypoint"])], axis=0)
