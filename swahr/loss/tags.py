"""Associative embedding: a loss that makes tags equal within a person and different between people.

Newell et al., Associative Embedding: End-to-End Learning for Joint Detection and Grouping, NeurIPS 2017,
eq. 1, normalised as in the official HigherHRNet and SWAHR code.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor


class TagLosses(NamedTuple):
    """Unweighted loss terms, per image."""

    pull: Float[Tensor, " b"]
    push: Float[Tensor, " b"]


def associative_embedding(tags: Float[Tensor, "b k h w"], tag_index: Int64[Tensor, "b p k"]) -> TagLosses:
    """Return the terms that pull a person's tags to their mean and push the means of people apart.

    With the tag t_nk at keypoint k of person n, its mean m_n over the person's keypoints and N people::

        pull = 1/N sum_n mean_k (t_nk - m_n)^2
        push = 1/2 sum_{i != j} exp(-(m_i - m_j)^2) / (N (N - 1))

    With one person push is 0; with none both are 0. Computed in float32 or wider, as squares of small numbers
    vanish in half precision.

    Args:
        tags: tag maps (frame: map, the coarsest).
        tag_index: ``y * w + x`` on those maps, -1 where a keypoint is absent; a row of -1 is no person.
    """
    present = tag_index >= 0  # (b p k)
    # Each keypoint's tag is read from its own map, in one gather for all people: (b p k).
    read = tags.flatten(2).gather(2, tag_index.clamp(min=0).mT).mT
    read = read.to(torch.promote_types(tags.dtype, torch.float32))
    counts = present.sum(dim=2)
    is_person, divisors = counts > 0, counts.clamp(min=1)
    people = is_person.sum(dim=1)
    means = torch.where(present, read, 0.0).sum(dim=2) / divisors
    deviations = torch.where(present, read - means.unsqueeze(2), 0.0)
    spread = deviations.square().sum(dim=2) / divisors
    pull = spread.sum(dim=1) / people.clamp(min=1)

    is_pair = (is_person.unsqueeze(1) & is_person.unsqueeze(2)).tril(-1)  # (b p p), each pair once
    closeness = torch.exp(-(means.unsqueeze(1) - means.unsqueeze(2)).square())
    pairs = (people * (people - 1)).clamp(min=1)
    push = torch.where(is_pair, closeness, 0.0).sum(dim=(1, 2)) / pairs
    return TagLosses(pull=pull, push=push)
