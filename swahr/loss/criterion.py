"""The training objective: the sum of named, weighted terms."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from swahr.loss.terms import Term, widened
from swahr.structures import NetworkOutput, Targets


class Criterion(nn.Module):
    """The training objective: the sum over terms of their means over the batch.

    Args:
        terms: the terms (such as `swahr.loss.HeatmapRegression`) by name, the prefix of their values in logs.

    Attributes:
        needs: names of the maps that the terms read; training builds the network with their heads.

    Raises:
        ValueError: there are no terms, or a learned weight has no penalty.
    """

    def __init__(self, terms: Mapping[str, Term]) -> None:
        super().__init__()
        if not terms:
            raise ValueError("loss.terms: expected at least one term, got none")
        self.terms = nn.ModuleDict(terms)
        self.needs: frozenset[str] = frozenset().union(*(term.needs for term in terms.values()))
        about = {getattr(term, "map", None) for term in terms.values() if term.weight > 0}
        if "log_weight_maps" in self.needs and "log_weight_maps" not in about:
            raise ValueError(
                "loss.terms: expected a term about log_weight_maps (swahr.loss.WeightMapPenalty) of positive "
                "weight beside a learned weight, got none; without it the weight would shrink to 0"
            )

    def forward(self, output: NetworkOutput, targets: Targets) -> dict[str, Float[Tensor, " b"]]:
        """Return the weighted loss terms per image, computed in float32 or wider also under autocast.

        Args:
            output: maps per stride, coarse to fine; tags in the first.
            targets: targets of the same strides and sizes.

        Returns:
            Every value of every term by ``<term>_<suffix>``, such as ``heatmap_4`` or ``tags_pull``.

        Raises:
            ValueError: a needed map is missing, or output and targets have different strides or sizes.
        """
        if missing := sorted(self.needs - output[0].fields.keys()):
            raise ValueError(
                f"the loss needs the maps {missing}, which the network does not predict; build it with their "
                "heads (model.heads), or choose another loss"
            )
        predicted = [(maps.stride, tuple(maps.heatmaps.shape)) for maps in output]
        expected = [(maps.stride, tuple(maps.heatmaps.shape)) for maps in targets.maps]
        if predicted != expected:
            raise ValueError(
                f"expected targets of the network's strides and shapes {predicted}, got {expected}; encode "
                "targets with the network's strides and skeleton"
            )
        with torch.autocast(output[0].heatmaps.device.type, enabled=False):
            wide = tuple(widened(maps) for maps in output)
            return {
                f"{name}_{suffix}" if suffix else name: value
                for name, term in self.terms.items()
                for suffix, value in term(wide, targets).items()
            }
