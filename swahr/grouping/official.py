"""Published compatibility: the grouping rule of the HigherHRNet and SWAHR code."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.optimize import linear_sum_assignment

from swahr.choices import check_choice
from swahr.grouping.gated import Pairs, pair_costs, solve_assignment, tag_distances
from swahr.grouping.people import GroupingRule, People

Solver = Literal["munkres", "scipy"]


class OfficialGrouping(GroupingRule):
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
        super().__init__(grouping_indices)
        check_choice("solver", solver, get_args(Solver))
        self.tag_threshold, self.use_score = tag_threshold, use_score
        self.solve = munkres_solver() if solver == "munkres" else linear_sum_assignment
        self.max_people, self.stop_when_full = max_people, stop_when_full

    def visit(
        self,
        people: People,
        keypoint: int,
        peaks: Float64[np.ndarray, "c 3"],
        tags: Float32[np.ndarray, "c t"],
    ) -> None:
        """Add each candidate to the person that it matches, that has its first tag, or that it starts."""
        if self.stop_when_full and people.count >= self.max_people:
            return
        owner = self.assign(people, peaks[:, 2], tags)
        is_new = owner < 0
        first_tags = [*people.tags[: people.count, 0, 0].tolist(), *tags[is_new, 0].tolist()]
        if len(set(first_tags)) == len(first_tags):
            owner[is_new] = people.new(int(is_new.sum()))
            people.add(owner, keypoint, peaks, tags)
            return
        # Equal tags merge people: one by one, as the last one that joins a person replaces the others.
        for i in range(len(owner)):
            one = slice(i, i + 1)
            if is_new[i]:
                owner[one] = _person_with(people, tags[i, 0])
            people.add(owner[one], keypoint, peaks[one], tags[one])

    def assign(
        self, people: People, scores: Float64[np.ndarray, " c"], tags: Float32[np.ndarray, "c t"]
    ) -> Int64[np.ndarray, " c"]:
        """Return the person that each candidate matches, -1 for none."""
        distance = tag_distances(tags, people.mean_tags(min(people.count, self.max_people)))  # (c p)
        cost = pair_costs(distance, scores, self.use_score)
        return solve_assignment(self.solve, cost, distance < self.tag_threshold)


def _person_with(people: People, first_tag: np.float32) -> Int64[np.ndarray, " 1"]:
    """Return the person whose first tag starts with ``first_tag``, its mean tag restarted; else a new one."""
    person = np.flatnonzero(people.tags[: people.count, 0, 0] == first_tag)
    people.number[person] = 0
    return person if person.size else people.new(1)


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
