"""Terms of the training objective, each with a weight and the names of the maps it needs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from swahr.choices import check_choice
from swahr.loss.heatmap import Adaptation, masked_mean, squared_difference, support_only, weight_penalty
from swahr.loss.tags import Closeness, associative_embedding
from swahr.structures import Maps, MapTargets, NetworkOutput, Targets

Values = Mapping[str, Float[Tensor, " b"]]


class Term(nn.Module, ABC):
    """A weighted part of the objective; to add one, subclass this and list it in ``loss.terms``.

    Args:
        weight: factor of every value.

    Attributes:
        needs: names of the maps that the network must predict.
    """

    needs: frozenset[str] = frozenset()

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    @abstractmethod
    def forward(self, output: NetworkOutput, targets: Targets) -> Values:
        """Return weighted values per image, by a suffix to the term's name (empty for a single value).

        Maps are in float32 or wider, and autocast is disabled.
        """


class StrideTerm(Term):
    """A term that is computed per stride; its values are named after the stride.

    Attributes:
        map: name of the term's map; strides without it are left out, as some heads are at the coarsest only.
    """

    map: str = "heatmaps"

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.needs = self.needs | {self.map}

    def forward(self, output: NetworkOutput, targets: Targets) -> Values:
        """Return one value per stride.

        Raises:
            ValueError: a stride has the term's map, but not another map that it needs.
        """
        values = {}
        for maps, target in zip(output, targets.maps, strict=True):
            if self.map not in maps.fields:
                continue
            if missing := sorted(self.needs - maps.fields.keys()):
                raise ValueError(
                    f"{type(self).__name__} needs the maps {missing} at stride {maps.stride}, where the "
                    "network does not predict them; use heads that every stride has"
                )
            values[str(maps.stride)] = self.weight * self.at_stride(maps, target)
        return values

    @abstractmethod
    def at_stride(self, maps: Maps, target: MapTargets) -> Float[Tensor, " b"]:
        """Return the unweighted value of one stride, per image."""


class HeatmapRegression(StrideTerm):
    """Mean squared error of heatmaps: plain, scale-adaptive (SAHR), weight-adaptive (WAHR) or both (SWAHR).

    Args:
        weight: factor of the term.
        adaptation: adapts the Gaussian target to the predicted scale map (`swahr.loss.TaylorTarget`); None
            regresses the Gaussian itself.
        pixel_weight: weights squared errors (`swahr.loss.DerivedWeight`); None weights all equally.
    """

    def __init__(
        self,
        weight: float = 1.0,
        adaptation: Adaptation | None = None,
        pixel_weight: Adaptation | None = None,
    ) -> None:
        super().__init__(weight)
        self.adaptation, self.pixel_weight = adaptation, pixel_weight
        parts = [part for part in (adaptation, pixel_weight) if part is not None]
        self.needs = self.needs.union(*(part.needs for part in parts))

    def at_stride(self, maps: Maps, target: MapTargets) -> Float[Tensor, " b"]:
        return masked_mean(self.errors(maps, target), target.valid)

    def errors(self, maps: Maps, target: MapTargets) -> Float[Tensor, "b k h w"]:
        """Return the weighted squared error of every pixel."""
        heatmaps = target.heatmaps.to(maps.heatmaps.dtype)
        adapted = heatmaps if self.adaptation is None else self.adaptation(maps, heatmaps)
        errors = squared_difference(maps.heatmaps, adapted)
        if self.pixel_weight is not None:
            errors = errors * self.pixel_weight(maps, heatmaps)
        return errors


class ScaleMapPenalty(StrideTerm):
    """Keeps scale maps near 0: sum of alpha^2 over the target's support, over all pixels (section 3.2)."""

    map = "scale_maps"

    def at_stride(self, maps: Maps, target: MapTargets) -> Float[Tensor, " b"]:
        alpha = support_only(maps.fields["scale_maps"], target.heatmaps)
        return masked_mean(squared_difference(alpha, 0.0), target.valid)


class WeightMapPenalty(StrideTerm):
    """`swahr.loss.heatmap.weight_penalty`, which keeps learned weights near 1.

    Its ratio to the heatmap term's weight is the squared residual at which the optimal learned weight is 1/2.
    """

    map = "log_weight_maps"

    def at_stride(self, maps: Maps, target: MapTargets) -> Float[Tensor, " b"]:
        return masked_mean(weight_penalty(maps.fields["log_weight_maps"]), target.valid)


class MapRegression(StrideTerm):
    """Mean squared error between map ``name`` and its target (``extra`` of `swahr.targets.TargetEncoder`)."""

    def __init__(self, name: str, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.map = name
        self.needs = frozenset({name})

    def at_stride(self, maps: Maps, target: MapTargets) -> Float[Tensor, " b"]:
        """Return the error of one stride's maps.

        Raises:
            ValueError: there is no target of the map's name, or it has another shape.
        """
        if self.map not in target.fields:
            raise ValueError(f"no target for the map '{self.map}'; add its encoder: targets.extra.{self.map}")
        predicted, wanted = maps.fields[self.map], target.fields[self.map]
        if predicted.shape != wanted.shape:
            raise ValueError(
                f"expected a target of the map's shape {tuple(predicted.shape)} for '{self.map}', got "
                f"{tuple(wanted.shape)}; correct targets.extra.{self.map}"
            )
        return masked_mean(squared_difference(predicted, wanted), target.valid)


class TagLoss(Term):
    """Associative embedding (`swahr.loss.tags`).

    Args:
        pull: factor of the term that pulls a person's tags together.
        push: factor of the term that pushes people apart.
        closeness: form of the push term: ``laplacian``, or ``gaussian`` as published.
    """

    needs = frozenset({"tags"})

    def __init__(self, pull: float = 0.001, push: float = 0.001, closeness: Closeness = "laplacian") -> None:
        super().__init__()
        check_choice("loss.terms.tags.closeness", closeness, get_args(Closeness))
        self.pull, self.push = pull, push
        self.closeness: Closeness = closeness

    def forward(self, output: NetworkOutput, targets: Targets) -> Values:
        """Return ``pull`` and ``push`` of the coarsest stride's tags."""
        pull, push = associative_embedding(output[0].fields["tags"], targets.tag_index, self.closeness)
        return {"pull": self.pull * pull, "push": self.push * push}


def widened(maps: Maps) -> Maps:
    """Return contiguous maps in float32 or wider, as squares of small errors vanish in half precision."""
    fields = {}
    for name, values in maps.fields.items():
        dtype = torch.promote_types(values.dtype, torch.float32)
        fields[name] = values.to(dtype, memory_format=torch.contiguous_format)
    return Maps(maps.stride, fields)
