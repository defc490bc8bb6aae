"""Crowds from the generator: how tall people are in the image and where they stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from swahr.data.synthetic.body import Bodies, sample_bodies


@dataclass(frozen=True)
class SampledCrowd:
    """Poses, heights and positions at random, on one ground plane.

    Attributes:
        people: fewest and most people in an image.
        person_height: height of the tallest person in image heights, drawn from this range.
        height_spread: greatest ratio of the tallest to the smallest person of one image.
        unusual_poses: fraction of people who bend, lie, stand on their hands, ...
        facing: fraction of people who face the viewer; the others show a side, their back, or anything.
        overlap: fraction of people who stand wherever they happen to; the others keep clear if they can.
    """

    people: tuple[int, int]
    person_height: tuple[float, float]
    height_spread: float
    unusual_poses: float
    facing: float
    overlap: float

    def __call__(self, rng: np.random.Generator, size: tuple[int, int]) -> Bodies:
        """People placed in an image of ``size`` (h, w), from far to near. Frame: image."""
        height, width = size
        count = int(rng.integers(self.people[0], self.people[1] + 1))
        stature = np.sort(self._sample_statures(rng, count)) * height
        bodies = sample_bodies(rng, count, self.unusual_poses, self.facing)
        lowest = bodies.points[..., 1].max(axis=1) * stature
        ground = self._sample_ground(rng, stature, height)
        extent = np.ptp(bodies.points[..., 0], axis=1) * stature
        across = _sample_across(rng, extent, width, self.overlap)
        middle = (bodies.points[..., 0].max(axis=1) + bodies.points[..., 0].min(axis=1)) / 2 * stature
        return bodies.placed(stature, np.stack([across - middle, ground - lowest], axis=1))

    def _sample_statures(self, rng: np.random.Generator, count: int) -> Float64[np.ndarray, " p"]:
        """The spread of an image is a random power of the greatest; within it people are spaced evenly."""
        tallest = rng.uniform(*self.person_height)
        spread = self.height_spread ** float(rng.random())
        steps = (np.arange(count) - rng.uniform(0, 0.6, count)).clip(0) / max(count - 1, 1)
        return np.asarray(tallest * spread**-steps)

    def _sample_ground(
        self, rng: np.random.Generator, stature: Float64[np.ndarray, " p"], height: int
    ) -> Float64[np.ndarray, " p"]:
        """Where feet are: lower for nearer people, by the height of the camera above the ground."""
        if not len(stature):
            return stature
        slack = height - stature[-1]
        front = height - slack * rng.uniform(0.0, 0.75) + 0.08 * height * rng.random()
        camera = rng.uniform(0.4, 1.15)
        return np.asarray(
            front - camera * (stature[-1] - stature) + rng.normal(0, 0.02, len(stature)) * stature
        )


def _sample_across(
    rng: np.random.Generator, extent: Float64[np.ndarray, " p"], width: int, overlap: float
) -> Float64[np.ndarray, " p"]:
    """Centres of people: mostly inside the image, of several tries the one that overlaps nearer ones least.

    A fraction ``overlap`` of all people keep their first try, so that crowds still overlap.
    """
    margin = np.minimum(0.45 * extent, 0.5 * width)
    tries = margin[:, None] + rng.random((len(extent), 4)) * (width - 2 * margin)[:, None]
    chosen = tries[:, 0].copy()
    picky = rng.random(len(extent)) >= overlap
    for person in range(len(extent) - 1, -1, -1):
        if picky[person]:
            nearer = slice(person + 1, len(extent))
            gap = np.abs(tries[person, :, None] - chosen[nearer]) - (extent[person] + extent[nearer]) / 2
            chosen[person] = tries[person, int(np.argmax(gap.min(axis=1, initial=0.0)))]
    return np.asarray(chosen)
