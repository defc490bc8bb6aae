"""The two rules that group peaks into people by their tags."""

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.grouping import group as reference_group
from reference.grouping import mean_tag

from swahr.grouping import GatedGrouping, OfficialGrouping
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
        for rank, i in enumerate(owners):
            tags[0, keypoint, rank, 0], scores[0, keypoint, rank] = people[i][keypoint]
            positions[0, keypoint, rank] = torch.tensor([i + 0.5, keypoint + 0.5])
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


def golden_peaks(golden, case: str) -> Peaks:
    arrays, _ = golden
    scores = torch.from_numpy(arrays[f"{case}/topk_val"])
    return Peaks(
        positions=torch.from_numpy(arrays[f"{case}/topk_loc"]) + 0.5,
        scores=torch.where(scores > 0.1, scores, torch.zeros_like(scores)),
        tags=torch.from_numpy(arrays[f"{case}/topk_tag"]),
    )


def test_no_golden_case_is_left_out(golden):
    assert sorted([*EXACT, *TIED]) == sorted(golden[1])


@pytest.mark.parametrize("solver", ["scipy", "munkres"])
@pytest.mark.parametrize("case", [*EXACT, *TIED])
def test_golden_matches_of_the_official_rule(golden, case: str, solver: str):
    arrays, about = golden
    options = about[case]["test_overrides"]
    group = OfficialGrouping(
        about[case]["joint_order"],
        solver=solver,
        use_score=options.get("USE_DETECTION_VAL", True),
        stop_when_full=options.get("IGNORE_TOO_MUCH", False),
    )
    (groups,) = group(golden_peaks(golden, case))
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
    group = GatedGrouping(golden[1][case]["joint_order"])
    assert len(group(golden_peaks(golden, case))[0]) == people


@pytest.mark.parametrize(("name", "people"), [("official", 156), ("gated", 35)])
def test_what_the_shipped_files_make_of_thirty_five_people(golden, repository, name: str, people: int):
    """The official number is the official code's own."""
    node = yaml.safe_load((repository / "conf" / "grouping" / f"{name}.yaml").read_text(encoding="utf-8"))
    rule = {
        "swahr.grouping.GatedGrouping": GatedGrouping,
        "swahr.grouping.OfficialGrouping": OfficialGrouping,
    }
    group = rule[node["rule"].pop("_target_")](COCO.grouping_indices, **node["rule"])
    assert len(group(golden_peaks(golden, "p35_over_max"))[0]) == people


def test_thirty_five_people_in_thirty_five_out():
    people = crowd([3.0 * i for i in range(35)])
    groups = GatedGrouping(ORDER)(peaks_of(people))[0]
    assert members(groups) == {frozenset((i + 0.5, k + 0.5) for k in range(17)) for i in range(35)}


def test_the_official_rule_founds_a_person_for_each_further_peak():
    people = crowd([3.0 * i + 0.01 * i for i in range(32)])
    for i, person in enumerate(people):
        for k, (tag, score) in person.items():
            person[k] = (tag + 0.001 * k + 1e-5 * i, score)  # no two founding tags are equal
    assert len(OfficialGrouping(ORDER, solver="scipy")(peaks_of(people))[0]) == 30 + 2 * 17
    assert len(OfficialGrouping(ORDER, solver="scipy", max_people=32)(peaks_of(people))[0]) == 32


def test_two_people_with_equal_tags_are_both_kept():
    people = crowd([1.5, 1.5])
    assert len(GatedGrouping(ORDER)(peaks_of(people))[0]) == 2
    assert len(OfficialGrouping(ORDER, solver="scipy")(peaks_of(people))[0]) == 1


def test_a_person_merged_into_by_the_official_rule_forgets_its_tags():
    # Keypoint 2 has a peak that joins and one that founds with the tag the person was founded with. The
    # mean is then 0.0, too far from 1.2; it would be 0.325, were the earlier tags kept.
    people = [{0: (0.0, 0.9), 1: (0.8, 0.9), 2: (0.5, 0.9), 3: (1.2, 0.9)}, {2: (0.0, 0.3)}]
    groups = OfficialGrouping(range(4), solver="scipy")(peaks_of(people, keypoints=4))[0]
    assert len(groups) == 2
    assert groups.scores[0].tolist() == pytest.approx([0.9, 0.9, 0.3, 0.0])


def test_a_pair_beyond_the_threshold_never_displaces_a_good_one():
    # Person 0 founds with tag 0. Then one peak fits it exactly, and another, better scored, fits nobody.
    people = [{0: (0.0, 0.9), 1: (0.0, 0.3)}, {1: (5.0, 0.9)}]
    groups = GatedGrouping((0, 1))(peaks_of(people, keypoints=2))[0]
    assert members(groups) == {frozenset({(0.5, 0.5), (0.5, 1.5)}), frozenset({(1.5, 1.5)})}
    # Two people at 0 and 1.4, peaks at 0.9 and 2.5: the official total cost prefers 0 <- 0.9, 1.4 <- 2.5,
    # and loses the second pair to the threshold.
    people = [{0: (0.0, 0.9)}, {0: (1.4, 0.8), 1: (0.9, 0.8)}, {1: (2.5, 0.9)}]
    groups = GatedGrouping((0, 1))(peaks_of(people, keypoints=2))[0]
    assert frozenset({(1.5, 0.5), (1.5, 1.5)}) in members(groups)


def test_a_distance_of_the_threshold_founds_a_person():
    people = [{0: (0.0, 0.9)}, {1: (1.0, 0.9)}]
    assert len(GatedGrouping((0, 1))(peaks_of(people, keypoints=2))[0]) == 2
    assert len(GatedGrouping((0, 1), tag_threshold=1.01)(peaks_of(people, keypoints=2))[0]) == 1


def test_the_score_decides_which_of_two_near_peaks_joins():
    people = [{0: (0.0, 0.9), 1: (0.1, 0.4)}, {1: (0.2, 0.8)}]
    by_score = GatedGrouping((0, 1))(peaks_of(people, keypoints=2))[0]
    by_distance = GatedGrouping((0, 1), use_score=False)(peaks_of(people, keypoints=2))[0]
    assert frozenset({(0.5, 0.5), (1.5, 1.5)}) in members(by_score)
    assert frozenset({(0.5, 0.5), (0.5, 1.5)}) in members(by_distance)


def test_the_tag_of_a_group_is_the_mean_of_its_peaks():
    people = [{0: (0.0, 0.9), 1: (0.5, 0.9), 2: (0.25, 0.9)}]
    groups = GatedGrouping((0, 1, 2))(peaks_of(people, keypoints=3))[0]
    assert groups.tag.tolist() == [[0.25]]


def test_keypoints_are_visited_in_the_given_order():
    people = [{0: (0.0, 0.9)}, {1: (5.0, 0.9)}]
    for order in ((0, 1), (1, 0)):
        groups = GatedGrouping(order)(peaks_of(people, keypoints=2))[0]
        assert groups.present.argmax(axis=1).tolist() == list(order)


def test_no_people():
    groups = GatedGrouping(ORDER)(peaks_of([]))[0]
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
    expected = GatedGrouping(ORDER)(peaks_of(people))[0]
    shifted = [{k: (tag + constant, s) for k, (tag, s) in person.items()} for person in people]
    assert members(GatedGrouping(ORDER)(peaks_of(shifted))[0]) == members(expected)
    assert members(expected) == {
        frozenset((i + 0.5, k + 0.5) for k in person) for i, person in enumerate(people) if person
    }


def random_peaks(rng: np.random.Generator, people: int, dimensions: int) -> Peaks:
    """Peaks of people with missing and spurious keypoints; some tags are equal."""
    means = np.round(rng.uniform(-2, 2, (people, 1)) * people, 1)
    positions, scores = torch.zeros(1, 5, 30, 2), torch.zeros(1, 5, 30)
    tags = torch.zeros(1, 5, 30, dimensions)
    for k in range(5):
        owner = np.concatenate([np.flatnonzero(rng.random(people) < 0.8), rng.integers(0, people, 2)])[:30]
        noise = rng.choice([0.0, 0.3]) * rng.normal(size=(len(owner), dimensions))
        tags[0, k, : len(owner)] = torch.from_numpy(means[owner] + noise)
        scores[0, k, : len(owner)] = torch.from_numpy(-np.sort(-rng.uniform(0.1, 1, len(owner))))
        positions[0, k, : len(owner)] = torch.from_numpy(rng.integers(0, 99, (len(owner), 2)) + 0.5)
    return Peaks(positions, scores, tags)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**31),
    st.integers(1, 30),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.sampled_from(["gated", "scipy", "munkres"]),
)
def test_equals_the_slow_reference(seed: int, people: int, dimensions: int, use_score: bool, rule: str):
    peaks = random_peaks(np.random.default_rng(seed), people, dimensions)
    order = (0, 2, 1, 4, 3)
    if rule == "gated":
        (found,) = GatedGrouping(order, use_score=use_score)(peaks)
    else:
        (found,) = OfficialGrouping(order, solver=rule, use_score=use_score, max_people=12)(peaks)
    rows = [
        [
            (*position, score, np.array(tag, dtype=np.float32))
            for position, score, tag in zip(*(part[0, k].tolist() for part in parts), strict=True)
            if score > 0
        ]
        for k in range(5)
        for parts in [(peaks.positions, peaks.scores, peaks.tags)]
    ]
    expected = reference_group(
        rows,
        order,
        rule="gated" if rule == "gated" else "official",
        solver="scipy" if rule == "gated" else rule,
        use_score=use_score,
        max_people=12,
    )
    assert len(found) == len(expected)
    for i, person in enumerate(expected):
        assert np.array_equal(np.column_stack([found.positions[i], found.scores[i]]), person["peaks"])
        np.testing.assert_allclose(found.tag[i], mean_tag(person), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", [GatedGrouping, OfficialGrouping])
def test_a_keypoint_named_twice(rule):
    with pytest.raises(ValueError, match="every keypoint index once"):
        rule((0, 0, 1))


@pytest.mark.parametrize("rule", [GatedGrouping, OfficialGrouping])
def test_peaks_of_another_skeleton(rule):
    with pytest.raises(ValueError, match="same skeleton"):
        rule((0, 1))(peaks_of([], keypoints=3))


def test_costs_that_are_not_finite_are_refused():
    people = [{0: (0.0, 0.9), 1: (0.0, 0.9)}, {1: (float("inf"), 0.5)}]
    for solver in ("scipy", "munkres"):
        with pytest.raises(ValueError, match="finite costs, got NaN or infinity"):
            OfficialGrouping((0, 1), solver=solver)(peaks_of(people, keypoints=2))
    assert len(GatedGrouping((0, 1))(peaks_of(people, keypoints=2))[0]) == 2  # gated, as any tag too far away
    people = [{0: (0.0, 0.9), 1: (0.0, float("inf"))}]
    with pytest.raises(ValueError, match="finite costs, got NaN or infinity"):
        GatedGrouping((0, 1))(peaks_of(people, keypoints=2))
