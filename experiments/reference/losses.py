"""Losses per image, with loops over images, people and keypoints; in tensors, so that autograd applies."""

from __future__ import annotations

import torch


def associative_embedding(tags, index, closeness="gaussian"):
    """Return pull and push per image (b). Newell et al., 2017, section 3.2.

    Args:
        tags: tag maps (b k h w).
        index: pixel ``y * w + x`` of every keypoint (b p k), -1 where it is absent.
        closeness: of two people, ``gaussian`` as published, or ``laplacian``.
    """
    pulls, pushes = [], []
    for image, rows in enumerate(index.tolist()):
        people = []
        for row in rows:
            own = [tags[image, k].flatten()[pixel].double() for k, pixel in enumerate(row) if pixel >= 0]
            if own:
                people.append(torch.stack(own))
        pull = push = tags.new_zeros((), dtype=torch.float64)
        means = [own.mean() for own in people]
        for own, mean in zip(people, means, strict=True):
            pull = pull + ((own - mean) ** 2).mean() / len(people)
        for i, mean in enumerate(means):
            for j, other in enumerate(means):
                if i != j:
                    apart = (mean - other) ** 2 if closeness == "gaussian" else (mean - other).abs()
                    push = push + torch.exp(-apart) / (len(means) * (len(means) - 1)) / 2
        pulls.append(pull)
        pushes.append(push)
    return torch.stack(pulls), torch.stack(pushes)


def heatmap_loss(
    predictions,
    target,
    valid,
    *,
    form="none",
    weight="none",
    scale_maps=None,
    log_weight_maps=None,
    gamma=0.01,
):
    """Return the error of heatmaps per image (b), over all pixels. Luo et al., CVPR 2021, section 3.

    Args:
        predictions: heatmaps (b k h w), as all maps.
        target: Gaussian heatmaps.
        valid: (b h w), False where the loss ignores pixels.
        form: adaptation of the target to ``scale_maps``: ``none``, ``taylor`` or ``exact``.
        weight: of pixels: ``none``, ``derived`` or ``learned``.
        scale_maps: their alpha, where 1 + alpha is the exponent of the target.
        log_weight_maps: logarithms of learned weights.
        gamma: exponent of the soft mask of derived weights.
    """
    losses = []
    for image, counted in enumerate(valid):
        total = 0.0
        for k in range(predictions.shape[1]):
            p, h = predictions[image, k][counted].double(), target[image, k][counted].double()
            alpha = None if form == "none" else scale_maps[image, k][counted].double()
            errors = (p - _adapted(h, alpha, form)) ** 2
            if weight == "derived":
                errors = errors * ((1 - p).abs() * h**gamma + p.abs() * (1 - h**gamma))
            if weight == "learned":
                errors = errors * torch.exp(log_weight_maps[image, k][counted].double())
            total = total + errors.sum()
        losses.append(total / predictions[image].numel())
    return torch.stack(losses)


def _adapted(h, alpha, form):
    """The target at some pixels; where it is 0, it stays 0."""
    adapted, support = h.clone(), h > 0
    if form == "taylor":
        e = alpha[support] * torch.log(h[support])
        adapted[support] = h[support] * (1 + e + e**2 / 2)
    if form == "exact":
        adapted[support] = h[support] ** (1 + alpha[support]).clamp(min=0.01)
    return adapted


def scale_map_penalty(scale_maps, target, valid):
    """Return the mean square of scale maps on the target's support per image (b), over all pixels."""
    losses = []
    for image, counted in enumerate(valid):
        total = 0.0
        for k in range(scale_maps.shape[1]):
            support = counted & (target[image, k] > 0)
            total = total + (scale_maps[image, k][support].double() ** 2).sum()
        losses.append(total / scale_maps[image].numel())
    return torch.stack(losses)
