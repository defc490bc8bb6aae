"""Searches the parameters of `PoseNms` for AP, two at a time with the other two fixed (RMPE, section 3.3)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import distance_transform_edt

from swahr.second_stage.pose_nms import Pairs, PoseNms
from swahr.structures import Poses

TOGETHER = (("distance_weight", "threshold"), ("sigma_score", "sigma_distance"))
"""The parameters that are searched two at a time, with the other two fixed."""
_EQUAL = 1e-9  # APs that differ by less are the same
_COARSE, _FINE = 9, 5  # values of each parameter: over its whole range, then around the best
_LEVELS = 3  # the ratio of neighbouring values is its square root at the next level

AveragePrecision = Callable[[Bool[np.ndarray, " p"]], float]
"""AP of the people chosen by a mask."""


@dataclass(frozen=True, eq=False)
class PoseNmsFit:
    """Parameters with the highest AP that was found, and AP without pose NMS and with it."""

    rule: PoseNms
    before: float
    after: float


def fit_pose_nms(
    start: PoseNms,
    poses: Sequence[Poses],
    average_precision: AveragePrecision,
    *,
    matched: bool = False,
    tick: Callable[[float], None] = lambda _: None,
) -> PoseNmsFit:
    """Search the four parameters for AP on a grid, two at a time, until AP stays; then on finer grids.

    Where several values of two parameters give the same AP, those farthest from any worse values are chosen.
    AP is never below that without pose NMS, as the largest threshold eliminates nobody.

    Args:
        start: the other settings, and the values to start from.
        poses: of several images, before pose NMS.
        average_precision: AP of some of the people in ``poses``, numbered over all images.
        matched: whether to choose ``matched`` at the end, too, if it raises AP further.
        tick: called with the AP of every combination that was tried.
    """
    objective = _Objective(start.compare(poses), average_precision, tick)
    everybody = np.ones(objective.pairs.scores.shape[1], dtype=bool)
    before, rule = objective.of(everybody), replaced(start, matched=None)
    for level in range(_LEVELS):
        best = -math.inf
        while (found := objective(rule)) > best + _EQUAL:
            best = found
            for names in TOGETHER:
                rule = _best_of_grid(rule, names, level, objective)
    if matched:
        choices = [replaced(rule, matched=number) for number in range(1, len(objective.pairs.scores) + 1)]
        best = max(map(objective, choices))
        if best > objective(rule) + _EQUAL:  # the strictest of the best
            rule = next(one for one in reversed(choices) if objective(one) >= best - _EQUAL)
    return PoseNmsFit(rule, before, objective(rule))


def replaced(rule: PoseNms, **changes: float | None) -> PoseNms:
    """A rule with other settings."""
    return PoseNms(**{**rule.settings(), **changes})  # type: ignore[arg-type] # of the constructor's types


class _Objective:
    """AP of a rule; similarities and APs that were computed before are remembered."""

    def __init__(
        self, pairs: Pairs, average_precision: AveragePrecision, tick: Callable[[float], None]
    ) -> None:
        self.pairs, self._average_precision, self._tick = pairs, average_precision, tick
        self._scores = lru_cache(_COARSE)(pairs.score_similarity)
        self._distances = lru_cache(_COARSE)(pairs.distance_similarity)
        self._known: dict[bytes, float] = {}

    def __call__(self, rule: PoseNms) -> float:
        near = self._distances(rule.sigma_distance)
        value = self.of(rule.keep(self.pairs, self._scores(rule.sigma_score) + rule.distance_weight * near))
        self._tick(value)
        return value

    def of(self, keep: Bool[np.ndarray, " p"]) -> float:
        key = np.packbits(keep).tobytes()
        if key not in self._known:
            self._known[key] = self._average_precision(keep)
        return self._known[key]


def _best_of_grid(rule: PoseNms, names: tuple[str, str], level: int, objective: "_Objective") -> PoseNms:
    """The rule with the best values of two parameters, the other two as they are."""
    limits = _limits(len(objective.pairs.scores), relative=rule.relative)
    grids = [_grid(limits[name], rule.settings()[name], level) for name in names]
    pairs = list(product(*grids))
    found = np.array([objective(replaced(rule, **dict(zip(names, pair, strict=True)))) for pair in pairs])
    best = found >= max(found.max(), objective(rule)) - _EQUAL
    if best.all() or not best.any():
        return rule
    margin = distance_transform_edt(best.reshape([len(grid) for grid in grids]))
    return replaced(rule, **dict(zip(names, pairs[int(np.argmax(margin))], strict=True)))


def _limits(keypoints: int, *, relative: bool) -> dict[str, tuple[float, float]]:
    """The range of each parameter; similarities are below the largest threshold."""
    heaviest = 10.0
    return {
        "sigma_score": (0.03, 3.0),
        "sigma_distance": (0.01, 4.0) if relative else (0.1, 1e4),
        "distance_weight": (0.1, heaviest),
        "threshold": (0.25, 1.05 * keypoints * (1 + heaviest)),
    }


def _grid(limits: tuple[float, float], value: float | None, level: int) -> list[float]:
    """Values at equal ratios: over the whole range, or from level 1 on around ``value`` within the range."""
    low, high = limits
    if not level or not value:
        return list(map(float, np.geomspace(low, high, _COARSE)))
    step = (high / low) ** (1 / ((_COARSE - 1) * 2**level))
    return sorted({min(max(value * step**n, low), high) for n in range(-(_FINE // 2), _FINE // 2 + 1)})
