"""Published compatibility: the grouping rule of the HigherHRNet and SWAHR code."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.optimize import linear_sum_assignment

from swahr.choices import check_choice
from swahr.grouping.gated import Pairs, assign, pair_costs, tag_distances
from swahr.grouping.people import People, check_grouping_indices, images_of
from swahr.structures import Groups, Peaks

Solver = Literal["munkres", "scipy"]


class OfficialGrouping:
    """Groups the peaks of every image into people as in the published code.

    The differences from `GatedGrouping`:

    - Pairs beyond ``tag_threshold`` take part in the assignment and are rejected afterwards.
    - Only the first ``max_people`` people are matched; peaks of any further people start new ones.
    - A person is identified by the first component of its first tag. A peak without a match joins the person
      with the same component, if there is one, and its tag replaces the tags of that person's mean.
    - Among assignments of equal total cost munkres 1.x returns another one than SciPy.

    Args:
        grouping_indices: keypoint types in the order in which they are visited.
        tag_threshold: a peak can join a person whose mean tag is nearer than this.
        solver: ``munkres`` (the package munkres 1.x, as published) or ``scipy`` (faster, equal total cost).
        use_score: use the cost of `GatedGrouping`; otherwise the plain distance.
        max_people: number of people that take part in matching.
        stop_when_full: skip the remaining keypoint types after ``max_people`` people are found (the published
            code's IGNORE_TOO_MUCH).

    Raises:
        ImportError: the solver is ``munkres``, and the package is missing or has version 2 or newer.
        ValueError: the solver is unknown, or ``grouping_indices`` does not hold every keypoint index once.
    """

    def __init__(
        self,
        grouping_indices: Sequence[int],
        tag_threshold: float = 1.0,
        solver: Solver = "munkres",
        use_score: bool = True,
        max_people: int = 30,
        stop_when_full: bool = False,
    ) -> None:
        check_grouping_indices(grouping_indices)
        check_choice("solver", solver, get_args(Solver))
        self.grouping_indices = tuple(grouping_indices)
        self.tag_threshold, self.use_score = tag_threshold, use_score
        self.solve = munkres_solver() if solver == "munkres" else linear_sum_assignment
        self.max_people, self.stop_when_full = max_people, stop_when_full

    def __call__(self, peaks: Peaks) -> list[Groups]:
        """Return the people of each image, in order of discovery. Frame: map.

        Raises:
            ValueError: the number of keypoints differs from ``grouping_indices``, or a tag or a score is not
                finite.
        """
        return [self._group(*image) for image in images_of(peaks, len(self.grouping_indices))]

    def _group(self, peaks: Float64[np.ndarray, "k m 3"], tags: Float32[np.ndarray, "k m t"]) -> Groups:
        found = peaks[..., 2] > 0  # (k m)
        people = People(int(found.sum()), peaks.shape[0], tags.shape[2])
        by_first_tag: dict[float, Int64[np.ndarray, " 1"]] = {}
        for keypoint in self.grouping_indices:
            if self.stop_when_full and people.count >= self.max_people:
                break
            # The candidates are this keypoint type's c peaks: (c 3) and (c t).
            own = found[keypoint]
            candidates, candidate_tags = peaks[keypoint, own], tags[keypoint, own]
            owners = self._assign(people, candidates[:, 2], candidate_tags)
            first_tags, is_new = candidate_tags[:, 0].tolist(), owners < 0
            new_tags = candidate_tags[is_new, 0].tolist()
            if len(set(new_tags)) == len(new_tags) and by_first_tag.keys().isdisjoint(new_tags):
                owners[is_new] = people.new(len(new_tags))
                by_first_tag |= zip(new_tags, np.split(owners[is_new], len(new_tags) or 1), strict=False)
                people.add(owners, keypoint, candidates, candidate_tags)
                continue
            # Equal tags merge people: one by one, as the last one that joins a person replaces the others.
            for i, first_tag in enumerate(first_tags):
                owner, one = owners[i : i + 1], slice(i, i + 1)
                if owner[0] < 0 and first_tag in by_first_tag:
                    owner = by_first_tag[first_tag]
                    people.number[owner] = 0  # the mean tag restarts
                elif owner[0] < 0:
                    owner = by_first_tag[first_tag] = people.new(1)
                people.add(owner, keypoint, candidates[one], candidate_tags[one])
        return people.groups()

    def _assign(
        self, people: People, scores: Float64[np.ndarray, " c"], tags: Float32[np.ndarray, "c t"]
    ) -> Int64[np.ndarray, " c"]:
        """Return the person that each candidate matches, -1 for none."""
        distance = tag_distances(tags, people.mean_tags(min(people.count, self.max_people)))  # (c p)
        cost = pair_costs(distance, scores, self.use_score)
        return assign(self.solve, cost, distance < self.tag_threshold)


def munkres_solver() -> Callable[[Float64[np.ndarray, "r c"]], Pairs]:
    """Return a solver that calls the package munkres 1.x, as the published code does.

    Raises:
        ImportError: the package is missing, or has version 2 or newer, which breaks ties differently.
    """
    try:
        from munkres import Munkres
    except ImportError as error:
        raise ImportError(
            "solver 'munkres' needs a package: pip install 'swahr[official]'; solver 'scipy' needs none"
        ) from error
    if int(version("munkres").partition(".")[0]) >= 2:
        raise ImportError(
            f"expected munkres 1.x, which breaks ties as published, got {version('munkres')}; "
            "pip install 'swahr[official]', or choose solver 'scipy'"
        )

    def solve(cost: Float64[np.ndarray, "r c"]) -> Pairs:
        rows, columns = np.array(Munkres().compute(cost.tolist()), dtype=np.int64).reshape(-1, 2).T
        return rows, columns

    return solve
