"""Grouping peaks into people by their tags."""

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from swahr.grouping import AssociativeEmbedding
from swahr.skeleton import COCO
from swahr.structures import Groups, Peaks

ORDER = COCO.grouping_indices
# Every solver finds the one optimal assignment of these; that of the others is not unique.
EXACT = ["p0", "p1_t1", "p1_t2", "p5_t1", "p5_t2", "p15_t1", "p15_t2", "p30_t1", "p30_t2"]
EXACT += ["spurious", "missing", "equal_tags", "borders", "crowd14_p5", "nms3", "ignore_too_much"]
TIED = ["p35_over_max", "close_tags", "close_tags_t1", "close_tags_noval", "crowd14_p15_close", "plateau"]


def peaks_of(people: list[dict[int, tuple[float, float]]], keypoints: int = 17) -> Peaks:
    """Peaks of people given as {keypoint: (tag, score)}; a person's number is in the positions."""
    m = max(1, len(people))
    positions, scores = torch.zeros(1, keypoints, m, 2), torch.zeros(1, keypoints, m)
    tags = torch.zeros(1, keypoints, m, 1)
    for keypoint in range(keypoints):
        owners = [i for i, person in enumerate(people) if keypoint in person]
        owners.sort(key=lambda i: -people[i][keypoint][1])
        for place, i in enumerate(owners):
            tags[0, keypoint, place, 0], scores[0, keypoint, place] = people[i][keypoint]
            positions[0, keypoint, place] = torch.tensor([i + 0.5, keypoint + 0.5])
    return Peaks(positions=positions, scores=scores, tags=tags)


def members(groups: Groups) -> set[frozenset[tuple[float, float]]]:
    """Each group as the set of its (person number, keypoint)."""
    return {
        frozenset(map(tuple, positions[present].tolist()))
        for positions, present in zip(groups.positions, groups.present, strict=True)
    }


def crowd(tags: list[float], seed: int = 0, keypoints: int = 17) -> list[dict[int, tuple[float, float]]]:
    rng = np.random.default_rng(seed)
    return [{k: (tag, float(rng.uniform(0.3, 1))) for k in range(keypoints)} for tag in tags]


@pytest.fixture(scope="module")
def golden(golden_arrays, golden_json):
    return golden_arrays("d_group.npz"), golden_json("d_group.json")


def golden_groups(golden, case: str, **settings) -> Groups:
    arrays, about = golden
    scores = torch.from_numpy(arrays[f"{case}/topk_val"])
    peaks = Peaks(
        positions=torch.from_numpy(arrays[f"{case}/topk_loc"]) + 0.5,
        scores=torch.where(scores > 0.1, scores, torch.zeros_like(scores)),
        tags=torch.from_numpy(arrays[f"{case}/topk_tag"]),
    )
    options = about[case]["test_overrides"]
    group = AssociativeEmbedding(
        about[case]["joint_order"],
        use_score=options.get("USE_DETECTION_VAL", True),
        stop_when_full=options.get("IGNORE_TOO_MUCH", False),
        **settings,
    )
    return group(peaks)[0]


def test_no_golden_case_is_left_out(golden):
    assert sorted([*EXACT, *TIED]) == sorted(golden[1])


@pytest.mark.parametrize("solver", ["scipy", "munkres"])
@pytest.mark.parametrize("case", [*EXACT, *TIED])
def test_golden_matches_of_the_official_rule(golden, case: str, solver: str):
    arrays, about = golden
    groups = golden_groups(golden, case, rule="official", solver=solver)
    assert all(about[case]["same_as_munkres114"].values()) == (case in EXACT)
    tied = case in TIED and solver == "scipy"  # then its own numbers
    expected = arrays[f"{case}/match_scipy" if tied else f"{case}/match"]
    expected = expected.reshape(-1, *groups.present.shape[1:], expected.shape[-1] if len(expected) else 5)
    assert len(groups) == len(expected)
    assert (groups.present == (expected[..., 2] > 0)).all()
    assert (groups.positions[groups.present] - 0.5 == expected[groups.present][:, :2]).all()
    assert (groups.scores == expected[..., 2]).all()
    for tag, tags, present in zip(groups.tag, expected[..., 3:], groups.present, strict=True):
        np.testing.assert_allclose(tag, tags[present].mean(axis=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("case", "people"), [("p35_over_max", 35), ("p30_t1", 30), ("p5_t2", 5), ("p0", 0)])
def test_gated_finds_as_many_people_as_there_are(golden, case: str, people: int):
    assert len(golden_groups(golden, case)) == people


@pytest.mark.parametrize(("name", "people"), [("official", 156), ("gated", 35)])
def test_what_the_shipped_files_make_of_thirty_five_people(golden, repository, name: str, people: int):
    """The official figure is the official code's own."""
    values = yaml.safe_load((repository / "conf" / "grouping" / f"{name}.yaml").read_text(encoding="utf-8"))
    settings = {key: values["groups"][key] for key in ("rule", "solver", "tag_threshold", "max_people")}
    assert len(golden_groups(golden, "p35_over_max", **settings)) == people


def test_thirty_five_people_in_thirty_five_out():
    people = crowd([3.0 * i for i in range(35)])
    groups = AssociativeEmbedding(ORDER)(peaks_of(people))[0]
    assert members(groups) == {frozenset((i + 0.5, k + 0.5) for k in range(17)) for i in range(35)}


def test_the_official_rule_founds_a_person_for_each_further_peak():
    people = crowd([3.0 * i + 0.01 * i for i in range(32)])
    for i, person in enumerate(people):
        for k, (tag, score) in person.items():
            person[k] = (tag + 0.001 * k + 1e-5 * i, score)  # no two founding tags are equal
    assert len(AssociativeEmbedding(ORDER, rule="official")(peaks_of(people))[0]) == 30 + 2 * 17
    assert len(AssociativeEmbedding(ORDER, rule="official", max_people=32)(peaks_of(people))[0]) == 32


def test_two_people_with_equal_tags_are_both_kept():
    people = crowd([1.5, 1.5])
    assert len(AssociativeEmbedding(ORDER)(peaks_of(people))[0]) == 2
    assert len(AssociativeEmbedding(ORDER, rule="official")(peaks_of(people))[0]) == 1


def test_a_person_merged_into_by_the_official_rule_forgets_its_tags():
    # Keypoint 2 has a peak that joins and one that founds with the tag the person was founded with. The
    # mean is then 0.0, too far from 1.2; it would be 0.325, were the earlier tags kept.
    people = [{0: (0.0, 0.9), 1: (0.8, 0.9), 2: (0.5, 0.9), 3: (1.2, 0.9)}, {2: (0.0, 0.3)}]
    groups = AssociativeEmbedding(range(4), rule="official")(peaks_of(people, keypoints=4))[0]
    assert len(groups) == 2
    assert groups.scores[0].tolist() == pytest.approx([0.9, 0.9, 0.3, 0.0])


def test_a_pair_beyond_the_threshold_never_displaces_a_good_one():
    # Person 0 founds with tag 0. Then one peak fits it exactly, and another, better scored, fits nobody.
    people = [{0: (0.0, 0.9), 1: (0.0, 0.3)}, {1: (5.0, 0.9)}]
    for solver in ("scipy", "munkres"):
        groups = AssociativeEmbedding((0, 1), solver=solver)(peaks_of(people, keypoints=2))[0]
        assert members(groups) == {frozenset({(0.5, 0.5), (0.5, 1.5)}), frozenset({(1.5, 1.5)})}
    # Two people at 0 and 1.4, peaks at 0.9 and 2.5: the official total cost prefers 0 <- 0.9, 1.4 <- 2.5,
    # and loses the second pair to the threshold.
    people = [{0: (0.0, 0.9)}, {0: (1.4, 0.8), 1: (0.9, 0.8)}, {1: (2.5, 0.9)}]
    groups = AssociativeEmbedding((0, 1))(peaks_of(people, keypoints=2))[0]
    assert frozenset({(1.5, 0.5), (1.5, 1.5)}) in members(groups)


def test_a_distance_of_the_threshold_founds_a_person():
    people = [{0: (0.0, 0.9)}, {1: (1.0, 0.9)}]
    assert len(AssociativeEmbedding((0, 1))(peaks_of(people, keypoints=2))[0]) == 2
    assert len(AssociativeEmbedding((0, 1), tag_threshold=1.01)(peaks_of(people, keypoints=2))[0]) == 1


def test_the_score_decides_which_of_two_near_peaks_joins():
    people = [{0: (0.0, 0.9), 1: (0.1, 0.4)}, {1: (0.2, 0.8)}]
    by_score = AssociativeEmbedding((0, 1))(peaks_of(people, keypoints=2))[0]
    by_distance = AssociativeEmbedding((0, 1), use_score=False)(peaks_of(people, keypoints=2))[0]
    assert frozenset({(0.5, 0.5), (1.5, 1.5)}) in members(by_score)
    assert frozenset({(0.5, 0.5), (0.5, 1.5)}) in members(by_distance)


def test_the_tag_of_a_group_is_the_mean_of_its_peaks():
    people = [{0: (0.0, 0.9), 1: (0.5, 0.9), 2: (0.25, 0.9)}]
    groups = AssociativeEmbedding((0, 1, 2))(peaks_of(people, keypoints=3))[0]
    assert groups.tag.tolist() == [[0.25]]


def test_keypoints_are_visited_in_the_given_order():
    people = [{0: (0.0, 0.9)}, {1: (5.0, 0.9)}]
    for order in ((0, 1), (1, 0)):
        groups = AssociativeEmbedding(order)(peaks_of(people, keypoints=2))[0]
        assert groups.present.argmax(axis=1).tolist() == list(order)


def test_no_people():
    groups = AssociativeEmbedding(ORDER)(peaks_of([]))[0]
    assert groups.positions.shape == (0, 17, 2)
    assert groups.present.shape == groups.scores.shape == (0, 17)
    assert groups.tag.shape == (0, 1)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=12, unique=True),
    st.integers(-8, 8),
    st.randoms(use_true_random=False),
)
def test_neither_a_constant_added_to_tags_nor_the_order_of_people_matters(tags, constant, random):
    # Multiples of 1/8 are exact in float32, so that no rounding interferes.
    people = crowd([2.0 * tag for tag in tags])
    for person in people:
        for k, (tag, score) in list(person.items()):
            person[k] = (tag + random.choice([-0.125, 0.0, 0.125]), score)
            if random.random() < 0.3:
                del person[k]
    expected = AssociativeEmbedding(ORDER)(peaks_of(people))[0]
    shifted = [{k: (tag + constant, s) for k, (tag, s) in person.items()} for person in people]
    assert members(AssociativeEmbedding(ORDER)(peaks_of(shifted))[0]) == members(expected)
    assert members(expected) == {
        frozenset((i + 0.5, k + 0.5) for k in person) for i, person in enumerate(people) if person
    }


def test_a_keypoint_named_twice():
    with pytest.raises(ValueError, match="every keypoint index once"):
        AssociativeEmbedding((0, 0, 1))


def test_peaks_of_another_skeleton():
    with pytest.raises(ValueError, match="same skeleton"):
        AssociativeEmbedding((0, 1))(peaks_of([], keypoints=3))
