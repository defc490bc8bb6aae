"""Targets and losses as they are usually written: loops over images, people and keypoints.

What `swahr benchmark` compares `swahr.target` and `swahr.loss` with.
"""

from __future__ import annotations

import numpy as np
import torch


def heatmaps(keypoints, visibility, size, sigma):
    """Gaussian targets (b k h w) of people (b p k 2), in pixel indices of the map, cut to whole ones."""
    b, people, k, _ = keypoints.shape
    h, w = size
    reach = int(3 * sigma + 1)
    step = np.arange(-reach, reach + 1, dtype=np.float64)
    patch = np.exp(-(step[None] ** 2 + step[:, None] ** 2) / (2 * sigma**2)).astype(np.float32)
    maps = np.zeros((b, k, h, w), dtype=np.float32)
    for image in range(b):
        for person in range(people):
            for keypoint in range(k):
                x, y = np.floor(keypoints[image, person, keypoint] + 0.5).astype(int)
                if visibility[image, person, keypoint] == 0 or not (0 <= x < w and 0 <= y < h):
                    continue
                left, top = max(0, x - reach), max(0, y - reach)
                right, bottom = min(w, x + reach + 1), min(h, y + reach + 1)
                part = maps[image, keypoint, top:bottom, left:right]
                drawn = patch[top - y + reach : bottom - y + reach, left - x + reach : right - x + reach]
                maps[image, keypoint, top:bottom, left:right] = np.maximum(part, drawn)
    return maps


def tag_index(keypoints, visibility, size):
    """``y * w + x`` of every keypoint (b p k), -1 where it is absent or off the map."""
    h, w = size
    index = np.full(visibility.shape, -1, dtype=np.int64)
    for place in np.ndindex(visibility.shape):
        x, y = np.floor(keypoints[place] + 0.5).astype(int)
        if visibility[place] > 0 and 0 <= x < w and 0 <= y < h:
            index[place] = y * w + x
    return index


def associative_embedding(tags, index):
    """Pull and push per image (b), of tag maps (b k h w) read at (b p k), person by person."""
    flat = tags.flatten(2)
    pulls, pushes = [], []
    for image in range(len(tags)):
        means, pull = [], tags.new_zeros(())
        for person in index[image].tolist():
            own = [flat[image, k, place] for k, place in enumerate(person) if place >= 0]
            if own:
                values = torch.stack(own)
                means.append(values.mean())
                pull = pull + (values - means[-1]).square().mean()
        pulls.append(pull / max(1, len(means)))
        push = tags.new_zeros(())
        if len(means) > 1:
            mean = torch.stack(means)
            closeness = torch.exp(-(mean[:, None] - mean[None]).square())
            push = (closeness.sum() - len(means)) / (2 * len(means) * (len(means) - 1))
        pushes.append(push)
    return torch.stack(pulls), torch.stack(pushes)


def heatmap_losses(predictions, scale_maps, target, valid, gamma):
    """SWAHR's weighted error and its regulariser per image, with a formula for every pixel."""
    support = target > 0
    alpha = scale_maps * support
    exponent = alpha * torch.log(torch.where(support, target, torch.ones_like(target)))
    adapted = target * (1 + exponent + exponent**2 / 2)
    base = target**gamma
    weight = torch.abs(1 - predictions) * base + torch.abs(predictions) * (1 - base)
    mask = valid[:, None].to(predictions.dtype)
    error = (predictions - adapted) ** 2 * weight * mask
    return error.mean(dim=(1, 2, 3)), (alpha**2 * mask).mean(dim=(1, 2, 3))
