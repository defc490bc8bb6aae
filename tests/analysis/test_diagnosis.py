"""Planted errors are found, each as what it is; and AP gained by mending them."""

import copy
from typing import Any

import numpy as np
import pytest
from random_crowd import Entries, crowd

from swahr.analysis import diagnose, mended_metrics
from swahr.analysis.diagnosis import KINDS, Diagnosis
from swahr.analysis.mending import ORDER
from swahr.analysis.summary import compare_images, summarise, worst_images
from swahr.evaluation import Evaluator
from swahr.skeleton import COCO, CROWDPOSE, Skeleton

SPACING, SCALE = 100.0, 100.0  # pixels between keypoints, and the square root of each person's area
LEFT_HIP, RIGHT_HIP = COCO.keypoints.index("left_hip"), COCO.keypoints.index("right_hip")


def person(image_id: int, x: float, *, skeleton: Skeleton = COCO) -> dict[str, Any]:
    """Somebody whose keypoints lie on a grid, far from each other."""
    k = np.arange(skeleton.num_keypoints)
    grid = np.stack([x + SPACING * (k % 4), SPACING * (k // 4), np.full(len(k), 2)], axis=1)
    return {
        "image_id": image_id, "category_id": 1, "iscrowd": 0, "area": SCALE**2, "num_keypoints": len(k),
        "bbox": [x, 0.0, 4 * SPACING, 5 * SPACING], "keypoints": grid.ravel().tolist(),
    }  # fmt: skip


def truth(*people: dict[str, Any], skeleton: Skeleton = COCO, **image: Any) -> dict[str, Any]:
    ids = sorted({one["image_id"] for one in people})
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", **image} for i in ids],
        "annotations": [{**one, "id": 10 + i} for i, one in enumerate(people)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}],
    }


def found(annotation: dict[str, Any], score: float = 0.5) -> dict[str, Any]:
    return {
        "image_id": annotation["image_id"],
        "category_id": 1,
        "keypoints": list(annotation["keypoints"]),
        "score": score,
    }


def put(result: dict[str, Any], keypoint: int, position: tuple[float, float]) -> None:
    result["keypoints"][3 * keypoint : 3 * keypoint + 2] = position


def position(annotation: dict[str, Any], keypoint: int) -> tuple[float, float]:
    x, y = annotation["keypoints"][3 * keypoint : 3 * keypoint + 2]
    return x, y


def beside(annotation: dict[str, Any], keypoint: int, similarity: float) -> tuple[float, float]:
    """Where the keypoint similarity with the true position is as given."""
    x, y = position(annotation, keypoint)
    distance = SCALE * 2 * COCO.sigmas[keypoint] * np.sqrt(-2 * np.log(similarity))
    return x, y + float(distance)


def three_people() -> Entries:
    return [person(7, 0), person(7, 1000), person(3, 0)]


def plant(kind: str, people: Entries, results: Entries) -> None:
    """Spoil keypoints of the first and third person, the same number of each."""
    for k in (LEFT_HIP, RIGHT_HIP, 0):
        first, second, third = people
        mirror = COCO.flip_permutation[k]
        if kind == "jitter":
            put(results[0], k, beside(first, k, 0.84))
            put(results[2], k, beside(third, k, 0.51))
        elif kind == "inversion" and k != 0:
            put(results[0], k, beside(first, mirror, 0.9))
            put(results[2], k, beside(third, mirror, 0.51))
        elif kind == "swap":
            put(results[0], k, beside(second, k, 0.51))
            put(results[1], k, position(first, mirror))
        elif kind == "miss":
            x, y = position(first, k)
            put(results[0], k, (x, y + SPACING / 2))
            put(results[2], k, (0.0, -3000.0))


PLANTED = {  # kind: how many of left hip, right hip and nose
    "jitter": (2, 2, 2), "inversion": (2, 2, 0), "swap": (2, 2, 2), "miss": (2, 2, 2), "good": (0, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_planted_errors_of_one_kind(kind: str):
    people = three_people()
    results = [found(one) for one in people]
    plant(kind, people, results)
    diagnosis = diagnose(truth(*people), results, COCO)
    rows = diagnosis.by_keypoint()
    assert diagnosis.owners == {1: 1, 2: 2, 3: 3}
    assert diagnosis.false_people == diagnosis.missed_people == ()
    for keypoint, planted in zip(("left_hip", "right_hip", "nose"), PLANTED[kind], strict=True):
        expected = dict.fromkeys(KINDS, 0) | {kind: planted}
        assert rows.pop(keypoint) == expected | {"good": 3 - planted}
    assert all(row == dict.fromkeys(KINDS, 0) | {"good": 3} for row in rows.values())
    summary = summarise(diagnosis, Evaluator())
    missing = 1 - summary["metrics"]["AP"]
    for mended, gain in summary["gains"].items():
        if mended in KINDS:
            expected_gain = missing if mended == kind else 0.0
            assert gain["alone"]["AP"] == pytest.approx(expected_gain, abs=1e-9)
    assert (missing > 0.01) == (kind != "good")


def test_planted_errors_of_all_kinds_at_once():
    people = [*three_people(), person(3, 1000), person(3, 2000)]
    results = [found(one, score) for one, score in zip(people[:4], (0.9, 0.8, 0.4, 0.3), strict=True)]
    for k in (LEFT_HIP, 13, 14):
        put(results[0], k, beside(people[0], k, 0.51))
    put(results[0], 5, beside(people[0], 5, 0.86))  # no error
    put(results[1], LEFT_HIP, beside(people[1], RIGHT_HIP, 0.7))
    put(results[1], 6, beside(people[1], 5, 0.7))
    put(results[2], LEFT_HIP, position(people[3], LEFT_HIP))
    put(results[2], 0, position(people[4], 0))  # of somebody who was missed
    put(results[2], 6, position(people[3], 5))
    for k in (1, 2, 3, 4):
        put(results[3], k, (0.0, -3000.0))
    results += [found(person(7, 5000), 0.95), found(person(3, 5000), 0.35)]
    diagnosis = diagnose(truth(*people), results, COCO)
    summary = summarise(diagnosis, Evaluator())
    assert summary["people"] == {"annotated": 5, "found": 4, "missed": 1, "false": 2}
    assert summary["keypoints"] == {
        "good": 4 * 17 - 12, "jitter": 3, "inversion": 2, "swap": 3, "miss": 4,
    }  # fmt: skip
    gains = summary["gains"]
    assert list(gains) == list(ORDER)
    assert min(gain["alone"]["AP"] for gain in gains.values()) > 0
    values = [gain["cumulative"]["AP"] for gain in gains.values()]
    assert values == sorted(values)
    # A good keypoint stays a little off, but the strictest OKS of AP is reached.
    assert summary["metrics"]["AP"] + values[-1] == pytest.approx(1.0, abs=1e-9)


def test_the_first_kind_that_applies_counts():
    """A hip between its own and the mirrored position, or another person's, is not an inversion or swap."""
    one, other = person(1, 0), person(1, 0)
    put(one, RIGHT_HIP, beside(one, LEFT_HIP, 0.8))
    put(other, LEFT_HIP, beside(one, LEFT_HIP, 0.99))
    result = found(one)
    put(result, LEFT_HIP, beside(one, LEFT_HIP, 0.6))
    kinds = diagnose(truth(one, other), [result], COCO).kinds[1]
    assert KINDS[kinds[LEFT_HIP]] == "jitter"
    put(one, LEFT_HIP, (0.0, -3000.0))
    put(one, RIGHT_HIP, beside(one, RIGHT_HIP, 0.9))
    kinds = diagnose(truth(one, other), [result], COCO).kinds[1]
    assert KINDS[kinds[LEFT_HIP]] == "inversion"


def test_unlabelled_keypoints_are_of_no_kind_and_nobodys_mirror():
    one = person(1, 0)
    result = found(one)
    put(result, LEFT_HIP, position(one, RIGHT_HIP))
    one["keypoints"][3 * RIGHT_HIP + 2] = 0
    one["num_keypoints"] = 16
    diagnosis = diagnose(truth(one), [result], COCO)
    assert diagnosis.by_keypoint()["right_hip"] == dict.fromkeys(KINDS, 0)
    assert diagnosis.by_keypoint()["left_hip"]["miss"] == 1


def test_detections_on_crowd_regions_are_not_false_people():
    crowd_region = person(1, 0) | {"iscrowd": 1, "num_keypoints": 0, "keypoints": [0.0] * 51}
    people = [crowd_region, person(1, 3000)]
    results = [found(person(1, 0)), found(people[1]), found(person(1, 8000))]
    diagnosis = diagnose(truth(*people), results, COCO)
    assert diagnosis.owners == {2: 2}
    assert diagnosis.false_people == (3,)
    assert diagnosis.missed_people == ()
    assert summarise(diagnosis, Evaluator())["metrics"] == Evaluator()(truth(*people), results, COCO)


def test_a_second_detection_of_a_person_is_a_false_person():
    one = person(1, 0)
    diagnosis = diagnose(truth(one), [found(one, 0.3), found(one, 0.9)], COCO)
    assert diagnosis.owners == {2: 1}
    assert diagnosis.false_people == (1,)


def test_detections_beyond_the_best_twenty_do_not_appear_when_others_are_removed():
    one = person(1, 0)
    results = [found(person(1, 3000 + 1000 * i), 0.9) for i in range(20)] + [found(one, 0.1)]
    diagnosis = diagnose(truth(one), results, COCO)
    assert len(diagnosis.false_people) == 20
    assert diagnosis.missed_people == (1,)
    metrics, alone, _ = mended_metrics(diagnosis, Evaluator())
    assert metrics["AP"] == alone["false people"]["AP"] == 0.0
    assert alone["missed people"]["AP"] == -1.0
    assert summarise(diagnosis, Evaluator())["gains"]["missed people"] == {"alone": {}, "cumulative": {}}


def test_people_who_count_but_have_no_labels():
    """A wrong num_keypoints, which the official tools believe."""
    one = person(1, 0) | {"keypoints": [0.0] * 51}
    diagnosis = diagnose(truth(one), [found(person(1, 0))], COCO)
    assert diagnosis.owners == {1: 1}
    assert sum(summarise(diagnosis, Evaluator())["keypoints"].values()) == 0
    assert diagnosis.lost().tolist() == [0.0]


@pytest.mark.parametrize(("protocol", "skeleton"), [("coco", COCO), ("crowdpose", CROWDPOSE)])
@pytest.mark.parametrize("seed", range(3))
def test_totals_are_those_of_the_evaluator(protocol: Any, skeleton: Skeleton, seed: int):
    content, results = crowd(skeleton, seed=seed)
    results += [{**one, "category_id": 2} for one in results[:3]]
    for one in results[::2]:
        one["score"] = round(one["score"], 1)  # ties
    before = copy.deepcopy((content, results))
    diagnosis = diagnose(content, results, skeleton, protocol=protocol)
    evaluator = Evaluator(protocol)
    summary = summarise(diagnosis, evaluator)
    assert (content, results) == before
    assert summary["metrics"] == evaluator(content, results, skeleton)
    labelled = skeleton.num_keypoints * summary["people"]["found"]
    assert sum(summary["keypoints"].values()) == labelled > 0
    for table in ("by_keypoint", "by_size", "by_crowding"):
        for kind in KINDS:
            assert sum(row[kind] for row in summary[table].values()) == summary["keypoints"][kind]
    counting = sum(one["num_keypoints"] > 0 for one in content["annotations"])
    assert summary["people"]["annotated"] == counting
    for table in ("by_size", "by_crowding"):
        assert sum(row["people"] for row in summary[table].values()) == counting
        missed = sum(row["missed people"] for row in summary[table].values())
        assert missed == summary["people"]["missed"]


def groups(diagnosis: Diagnosis) -> list[dict[int, str]]:
    return [dict(sorted(group.items())) for group in (diagnosis.sizes(), diagnosis.crowding())]


def test_groups_of_people():
    areas = (32.0**2 - 1, 32.0**2, 96.0**2 - 1, 96.0**2)
    people = [person(1, 20.0 * i) | {"area": area} for i, area in enumerate(areas)] + [person(1, 5000)]
    region = person(1, 5000) | {"iscrowd": 1, "num_keypoints": 0}
    sizes, crowding = groups(diagnose(truth(*people, region), [], COCO))
    assert [*sizes.values()][:4] == ["small", "medium", "medium", "large"]
    assert [*crowding.values()] == [*["3+ neighbours"] * 4, "no neighbour", "1-2 neighbours"]
    table = diagnose(truth(*people, region), [], COCO).by_group(crowding)
    assert {name: row["people"] for name, row in table.items()} == {"3+ neighbours": 4, "no neighbour": 1}


@pytest.mark.parametrize(
    ("index", "name"), [(0.0, "easy"), (0.2, "medium"), (0.79, "medium"), (0.8, "hard"), (1, "hard")]
)
def test_crowding_by_crowd_index(index: float, name: str):
    one = person(1, 0, skeleton=CROWDPOSE)
    content = truth(one, skeleton=CROWDPOSE, crowdIndex=index)
    diagnosis = diagnose(content, [], CROWDPOSE, protocol="crowdpose")
    assert diagnosis.crowding() == {1: name}


def test_worst_images_and_comparison():
    people = three_people()
    good = [found(one) for one in people]
    bad = copy.deepcopy(good[:2])
    plant("miss", people, [*bad, found(people[2])])
    bad.append(found(person(7, 9000)))
    first, second = (diagnose(truth(*people), results, COCO) for results in (good, bad))
    assert worst_images(first, 5) == []
    worst, other = worst_images(second, 5)
    assert worst == {
        "image_id": 3, "file_name": "3.jpg", "lost": 1.0, "missed people": 1, "false people": 0,
        **dict.fromkeys(KINDS, 0),
    }  # fmt: skip
    assert (other["image_id"], other["miss"], other["good"], other["false people"]) == (7, 3, 31, 1)
    assert worst_images(second, 1) == [worst]
    compared = compare_images(first, second)
    assert (compared["better"], compared["worse"], compared["equal"]) == (2, 0, 0)
    assert [one["image_id"] for one in compared["most"]] == [3, 7]
    assert compared["most"][0]["oks_gained"] == pytest.approx(1.0)
    assert [one["oks_gained"] for one in compare_images(second, first)["most"]][-1] == pytest.approx(-1.0)
    with pytest.raises(ValueError, match="0 or more, got -1"):
        worst_images(first, -1)
