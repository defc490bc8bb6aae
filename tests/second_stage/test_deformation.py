"""Max-sum over a tree: by hand, against all configurations, and with offsets learned from people."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swahr.kernels.envelope import transform
from swahr.second_stage import Deformation, KeypointTree, estimate_deformation, max_sum, spanning_tree
from swahr.skeleton import COCO

CHAIN = KeypointTree(parents=(-1, 0, 1), levels=((0,), (1,), (2,)))
FORK = KeypointTree(parents=(1, -1, 1), levels=((1,), (0, 2)))


def value(scores: np.ndarray, pixels: np.ndarray, tree: KeypointTree, deformation: Deformation) -> float:
    """The objective as written."""
    total = sum(scores[k, y, x] for k, (x, y) in enumerate(pixels))
    for child, parent in enumerate(tree.parents):
        if parent >= 0:
            stretch = pixels[child] - pixels[parent] - deformation.rest[child]
            total -= (deformation.weight[child] * stretch**2).sum()
    return float(total)


def test_by_hand() -> None:
    """Two peaks of the child: the one near the rest offset wins, unless the other is higher by the cost."""
    tree = KeypointTree(parents=(-1, 0), levels=((0,), (1,)))
    scores = np.zeros((2, 6, 8))
    scores[0, 2, 3] = 9.0  # the parent at (3, 2)
    scores[1, 1, 0] = scores[1, 4, 5] = 1.0  # children at (0, 1) and (5, 4)
    deformation = Deformation(np.array([[0.0, 0], [2, 1]]), np.array([[0.0, 0], [0.1, 0.2]]))
    assert max_sum(scores, tree, deformation).tolist() == [[3, 2], [5, 4]]  # stretched by (0, 1): costs 0.2
    scores[1, 1, 0] += 0.1 * 25 + 0.2 * 4 - 0.2 + 1e-6  # stretched by (-5, -2)
    assert max_sum(scores, tree, deformation).tolist() == [[3, 2], [0, 1]]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(3, 3), (2, 4), (1, 6), (5, 1)]),
    st.sampled_from([CHAIN, FORK]),
)
def test_it_is_the_best_of_all_configurations(seed: int, size: tuple[int, int], tree: KeypointTree) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(3, *size)) * rng.choice([0.1, 3.0])
    deformation = Deformation(rng.uniform(-4, 4, (3, 2)), rng.choice([0, 1e-9, 0.1, 1, 50], (3, 2)))
    pixels = [(x, y) for y in range(size[0]) for x in range(size[1])]
    values = [value(scores, np.array(one), tree, deformation) for one in product(pixels, repeat=3)]
    found = value(scores, max_sum(scores, tree, deformation), tree, deformation)
    assert found == pytest.approx(max(values), rel=1e-12, abs=1e-9)


def test_large_maps_of_few_distinct_values() -> None:
    """Rows against all pairs of coordinates, with ties and parabolas that never meet in the row."""
    rng = np.random.default_rng(0)
    values, axis = rng.integers(0, 3, (20, 70)).astype(float), np.arange(70)
    for rest, weight in ((0.0, 0.01), (-3.5, 0.5), (90.0, 2.0), (1.0, 1e-300), (0.25, 0.0)):
        best, origin = transform(values, rest, weight)
        cost = weight * (axis - axis[:, None] - rest) ** 2  # (q, c)
        np.testing.assert_allclose(best, (values[:, None] - cost).max(axis=2), rtol=1e-12, atol=1e-9)
        at_origin = np.take_along_axis(values[:, None] - cost, origin[..., None], axis=2)[..., 0]
        np.testing.assert_allclose(at_origin, best, rtol=1e-12, atol=1e-9)


def test_learned_offsets_find_the_keypoint_among_two() -> None:
    rng = np.random.default_rng(0)
    tree, body = spanning_tree(COCO), rng.uniform(0.3, 0.7, (17, 2))
    people = body + rng.normal(0, 0.02, (200, 17, 2))
    present = np.ones((200, 17), dtype=bool)
    present[:, 4] = np.arange(200) < 1  # one right ear is not enough
    learned = estimate_deformation(people, present, tree)
    for child, parent in enumerate(tree.parents):
        if parent >= 0 and 4 not in (child, parent):
            np.testing.assert_allclose(learned.rest[child], body[child] - body[parent], atol=0.01)
            np.testing.assert_allclose(learned.weight[child], 1 / (2 * 2 * 0.02**2), rtol=0.4)
    assert not learned.weight[[4, tree.order[0]]].any()
    scores = np.full((17, 48, 32), -9.0)
    pixels = np.floor(body * (32, 48)).astype(int)
    scores[np.arange(17), pixels[:, 1], pixels[:, 0]] = 0.0
    wrist = 9
    scores[wrist, 2, 2] = 1.0  # somebody else's, and higher
    assert np.array_equal(max_sum(scores, tree, learned.on_map((48, 32))), pixels)


def test_equal_offsets_have_a_finite_weight() -> None:
    people = np.tile(np.random.default_rng(0).random((17, 2)), (5, 1, 1))
    learned = estimate_deformation(people, np.ones((5, 17), dtype=bool), spanning_tree(COCO))
    assert np.isfinite(learned.weight).all()


def test_numbers_that_are_not_finite_or_negative() -> None:
    scores, none = np.zeros((3, 3, 3)), Deformation(np.zeros((3, 2)), np.zeros((3, 2)))
    for wrong in (
        (np.full((3, 3, 3), np.nan), none), (scores, Deformation(np.full((3, 2), np.inf), none.weight)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="expected finite scores, rest offsets and weights"):
            max_sum(wrong[0], CHAIN, wrong[1])
    with pytest.raises(ValueError, match=r"expected weights of at least 0, got -1\.0"):
        max_sum(scores, CHAIN, Deformation(none.rest, none.weight - 1))
