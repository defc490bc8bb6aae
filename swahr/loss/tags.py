"""Associative embedding: a loss that makes tags equal within a person and different between people.

Newell et al., Associative Embedding: End-to-End Learning for Joint Detection and Grouping, NeurIPS 2017,
eq. 1, normalised as in the official HigherHRNet and SWAHR code.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class TagLosses(NamedTuple):
    """Unweighted loss terms, per image."""

    pull: Float[Tensor, " b"]
    push: Float[Tensor, " b"]


Closeness = Literal["gaussian", "laplacian"]
"""Of the means of two people, in the push term."""


def associative_embedding(
    tags: Float[Tensor, "b k h w"], tag_index: Int64[Tensor, "b p k"], closeness: Closeness = "gaussian"
) -> TagLosses:
    """Return the terms that pull a person's tags to their mean and push the means of people apart.

    With the tag t_nk at keypoint k of person n, its mean m_n over the person's keypoints and N people::

        pull = 1/N sum_n mean_k (t_nk - m_n)^2
        push = 1/2 sum_{i != j} exp(-(m_i - m_j)^2) / (N (N - 1))

    With one person push is 0; with none both are 0. Computed in float32 or wider, as squares of small numbers
    vanish in half precision.

    The gradient of push vanishes where means are equal, so that equal tags stay equal. The ``laplacian``
    closeness exp(-|m_i - m_j|), which training uses by default, has its largest gradient there.

    Args:
        tags: tag maps (frame: map, the coarsest).
        tag_index: ``y * w + x`` on those maps, -1 where a keypoint is absent; a row of -1 is no person.
        closeness: form of the push term, as above or ``laplacian``.
    """
    people = read_people(tags, tag_index)
    count = people.exist.sum(dim=1)
    spread = people.deviations.square().sum(dim=2) / people.divisors
    pull = spread.sum(dim=1) / count.clamp(min=1)

    distances = people.means.unsqueeze(1) - people.means.unsqueeze(2)
    is_pair = (people.exist.unsqueeze(1) & people.exist.unsqueeze(2)).tril(-1)  # each pair once
    apart = distances.square() if closeness == "gaussian" else distances.abs()
    pairs = (count * (count - 1)).clamp(min=1)
    push = torch.where(is_pair, torch.exp(-apart), 0.0).sum(dim=(1, 2)) / pairs
    return TagLosses(pull=pull, push=push)


class People(NamedTuple):
    """Tags by person."""

    means: Float[Tensor, "b p"]
    deviations: Float[Tensor, "b p k"]  # of a person's tags from their mean, 0 where absent
    exist: Bool[Tensor, "b p"]
    divisors: Int64[Tensor, "b p"]  # numbers of keypoints, at least 1


def read_people(tags: Float[Tensor, "b k h w"], tag_index: Int64[Tensor, "b p k"]) -> People:
    """Read each keypoint's tag from its own map, in one gather for all people."""
    present = tag_index >= 0  # (b p k)
    read = tags.flatten(2).gather(2, tag_index.clamp(min=0).mT).mT  # (b p k)
    read = read.to(torch.promote_types(tags.dtype, torch.float32))
    counts = present.sum(dim=2)
    divisors = counts.clamp(min=1)
    means = torch.where(present, read, 0.0).sum(dim=2) / divisors
    deviations = torch.where(present, read - means.unsqueeze(2), 0.0)
    return People(means, deviations, counts > 0, divisors)
