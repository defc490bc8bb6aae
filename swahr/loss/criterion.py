"""The training objective as named, weighted terms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from swahr.loss.fused import FusedHeatmapLoss
from swahr.loss.heatmap import (
    ScaleTarget,
    Weighting,
    adapted_target,
    derived_weight,
    learned_weight,
    masked_mean,
    support_only,
    weight_penalty,
)
from swahr.loss.tags import associative_embedding
from swahr.structures import Maps, MapTargets, NetworkOutput, Targets

Terms = dict[str, Float[Tensor, " b"]]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """What a network is trained to minimise: the sum over terms of their means over the batch.

    The paper's ablation is two choices: ``scale_target`` (none, or SAHR) and ``weight`` (none, or WAHR).

    Attributes:
        scale_target: ``none`` regresses the Gaussian target; ``taylor`` (the official form) and ``exact``
            adapt it to the predicted scale map (`swahr.loss.heatmap.adapted_target`).
        weight: ``none``; ``derived`` from the prediction (WAHR, the official form); or ``learned``, the
            exponential of a predicted weight map (`swahr.loss.heatmap.weight_penalty`).
        gamma: exponent of WAHR's foreground map; read when ``weight`` is ``derived``.
        heatmap_weight: factor of the heatmap terms.
        scale_map_weight: factor of the scale map's regulariser, the mean of alpha^2.
        weight_map_weight: factor of a learned weight's regulariser: the squared residual that halves it.
        pull_weight: factor of the tags' pull term.
        push_weight: factor of the tags' push term.

    Raises:
        ValueError: an unknown ``scale_target`` or ``weight``, or a factor out of range.
    """

    scale_target: ScaleTarget
    weight: Weighting
    gamma: float
    heatmap_weight: float
    scale_map_weight: float
    weight_map_weight: float
    pull_weight: float
    push_weight: float

    def __post_init__(self) -> None:
        for name, choices in (("scale_target", get_args(ScaleTarget)), ("weight", get_args(Weighting))):
            if getattr(self, name) not in choices:
                raise ValueError(f"loss.{name}: expected one of {choices}, got {getattr(self, name)!r}")
        if self.gamma <= 0:
            raise ValueError(f"loss.gamma: expected a positive exponent, got {self.gamma}")
        if self.weight == "learned" and self.weight_map_weight <= 0:
            raise ValueError(
                f"loss.weight_map_weight: expected a positive factor, got {self.weight_map_weight}; without "
                "it a learned weight would shrink to 0"
            )

    @property
    def needs_scale_maps(self) -> bool:
        """Whether the network must predict scale maps."""
        return self.scale_target != "none"

    @property
    def needs_weight_maps(self) -> bool:
        """Whether the network must predict weight maps."""
        return self.weight == "learned"

    def __call__(self, output: NetworkOutput, targets: Targets) -> Terms:
        """Weighted loss terms per image, computed in float32 (or wider, if given) also under autocast.

        Args:
            output: maps per stride, coarse to fine; tags in the first.
            targets: of the same strides and sizes.

        Returns:
            ``heatmap_<stride>``, ``scale_map_<stride>`` and ``weight_map_<stride>`` for what is switched on,
            ``pull`` and ``push``; each ``(b,)``.

        Raises:
            ValueError: a needed map is missing, or output and targets are of different strides or sizes.
        """
        _check_alignment(output, targets)
        with torch.autocast(output[0].heatmaps.device.type, enabled=False):
            terms: Terms = {}
            for maps, target in zip(output, targets.maps, strict=True):
                terms |= self._map_terms(maps, target)
            return terms | self._tag_terms(output[0], targets)

    def _map_terms(self, maps: Maps, target: MapTargets) -> Terms:
        given = [m for m in (maps.heatmaps, maps.scales) if m is not None]
        if self.weight != "learned" and all(m.is_cpu and m.dtype != torch.float64 for m in given):
            return self._fused_terms(maps, target)
        return self._dense_terms(_widened(maps), target)

    def _dense_terms(self, maps: Maps, target: MapTargets) -> Terms:
        """The formulas as they are written down, for autograd."""
        terms: Terms = {}
        heatmaps = target.heatmaps.to(maps.heatmaps.dtype)
        adapted = heatmaps
        if self.scale_target != "none":
            alpha = support_only(_needed(maps.scales, "scale", maps.stride), heatmaps)
            adapted = adapted_target(heatmaps, alpha, self.scale_target)
            regulariser = masked_mean(alpha.square(), target.valid)
            terms[f"scale_map_{maps.stride}"] = self.scale_map_weight * regulariser
        errors = (maps.heatmaps - adapted).square()
        if self.weight == "derived":
            errors = errors * derived_weight(maps.heatmaps, heatmaps, self.gamma)
        elif self.weight == "learned":
            weight_map = _needed(maps.weights, "weight", maps.stride)
            errors = errors * learned_weight(weight_map)
            regulariser = masked_mean(weight_penalty(weight_map), target.valid)
            terms[f"weight_map_{maps.stride}"] = self.weight_map_weight * regulariser
        terms[f"heatmap_{maps.stride}"] = self.heatmap_weight * masked_mean(errors, target.valid)
        return terms

    def _fused_terms(self, maps: Maps, target: MapTargets) -> Terms:
        """The same terms with their gradients, many times as fast on a CPU; in float32."""
        loss = FusedHeatmapLoss(
            scale_target=self.scale_target,
            gamma=self.gamma if self.weight == "derived" else None,
            error_factor=self.heatmap_weight,
            regulariser_factor=self.scale_map_weight,
        )
        adapts = self.scale_target != "none"
        scale_map = _needed(maps.scales, "scale", maps.stride) if adapts else None
        error, regulariser = loss(maps.heatmaps, scale_map, target.heatmaps, target.valid)
        terms = {f"scale_map_{maps.stride}": regulariser} if adapts else {}
        return terms | {f"heatmap_{maps.stride}": error}

    def _tag_terms(self, maps: Maps, targets: Targets) -> Terms:
        tags = _needed(maps.tags, "tag", maps.stride)
        pull, push = associative_embedding(tags, targets.tag_index)
        return {"pull": self.pull_weight * pull, "push": self.push_weight * push}


def _needed(maps: Tensor | None, name: str, stride: int) -> Tensor:
    if maps is None:
        raise ValueError(
            f"the loss needs {name} maps at stride {stride}, but the network predicts none; build it "
            f"with its {name} head, or choose a loss that does without"
        )
    return maps


def _check_alignment(output: NetworkOutput, targets: Targets) -> None:
    predicted = [(maps.stride, tuple(maps.heatmaps.shape)) for maps in output]
    wanted = [(maps.stride, tuple(maps.heatmaps.shape)) for maps in targets.maps]
    if predicted != wanted:
        raise ValueError(
            f"expected targets of the network's strides and shapes {predicted}, got {wanted}; encode targets "
            "with the network's strides and the skeleton it was built for"
        )


def _widened(maps: Maps) -> Maps:
    heatmaps = _wide(maps.heatmaps)
    assert heatmaps is not None
    return replace(maps, heatmaps=heatmaps, scales=_wide(maps.scales), weights=_wide(maps.weights))


def _wide(values: Tensor | None) -> Tensor | None:
    """At least float32, as squares of small errors vanish in half precision, and in the targets' layout."""
    if values is None:
        return None
    return values.to(torch.promote_types(values.dtype, torch.float32), memory_format=torch.contiguous_format)
