"""Losses per image, in tensors of any precision, so that autograd gives their gradients."""

from __future__ import annotations

import torch


def associative_embedding(tags, index):
    """Return pull and push per image (b), person by person. Newell et al., 2017, section 3.2.

    Args:
        tags: tag maps (b k h w).
        index: pixel ``y * w + x`` of every keypoint (b p k), -1 where it is absent.
    """
    flat = tags.flatten(2)
    pulls, pushes = [], []
    for image in range(len(tags)):
        means, pull = [], tags.new_zeros(())
        for person in index[image].tolist():
            own = [flat[image, k, pixel] for k, pixel in enumerate(person) if pixel >= 0]
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
    """Return SWAHR's weighted error and its regulariser per image (b). Luo et al., CVPR 2021, section 3.

    Args:
        predictions: heatmaps (b k h w).
        scale_maps: (b k h w).
        target: Gaussian heatmaps (b k h w).
        valid: (b h w), False where the loss ignores pixels.
        gamma: exponent of the soft mask.
    """
    support = target > 0
    alpha = scale_maps * support
    exponent = alpha * torch.log(torch.where(support, target, torch.ones_like(target)))
    adapted = target * (1 + exponent + exponent**2 / 2)
    base = target**gamma
    weight = torch.abs(1 - predictions) * base + torch.abs(predictions) * (1 - base)
    mask = valid[:, None].to(predictions.dtype)
    error = (predictions - adapted) ** 2 * weight * mask
    return error.mean(dim=(1, 2, 3)), (alpha**2 * mask).mean(dim=(1, 2, 3))
