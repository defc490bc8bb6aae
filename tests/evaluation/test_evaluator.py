"""The metrics of COCO's and CrowdPose's protocols."""

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swahr.evaluation import Evaluator
from swahr.skeleton import COCO, CROWDPOSE, Skeleton

COCO_NAMES = ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]
CROWDPOSE_NAMES = ["AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard"]
SHIPPED = {  # results that were published with their ground truth
    "xtcoco_example_coco": "example_coco_preds.json",
    "cocoapi_fake100": "person_keypoints_val2014_fakekeypoints100_results.json",
    "example_crowdpose": "fce_example_crowdpose_preds.json",
}
BACKENDS = ["faster-coco-eval", "pycocotools"]


def read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())


def stored_results(path: Path, name: str) -> list[dict[str, Any]]:
    arrays = np.load(path)
    triples = np.concatenate(
        [arrays[f"{name}/xy10"] / 10, arrays[f"{name}/kscore1000"][..., None] / 1000], axis=-1
    )
    ids, scores = arrays[f"{name}/image_id"].tolist(), arrays[f"{name}/score"].tolist()
    return [
        {"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": score}
        for image_id, keypoints, score in zip(
            ids, triples.reshape(len(ids), -1).tolist(), scores, strict=True
        )
    ]


def person(image_id: int, x: float, y: float, size: float = 100.0, keypoints: int = 17) -> dict[str, Any]:
    """Somebody standing at (x, y), annotated."""
    grid = [(x + size * (k % 4) / 4, y + size * (k // 4) / 4, 2) for k in range(keypoints)]
    return {
        "id": 0,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [x, y, size, size],
        "area": size * size / 2,
        "keypoints": [value for triple in grid for value in triple],
        "num_keypoints": keypoints,
    }


def truth(*people: dict[str, Any], keypoints: int = 17, images: int = 3) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "height": 400, "width": 400, "crowdIndex": [0.1, 0.5, 0.9][i % 3]}
            for i in range(images)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": [f"k{i}" for i in range(keypoints)]}],
        "annotations": [{**one, "id": i} for i, one in enumerate(people)],
    }


def result(annotation: dict[str, Any], score: float = 0.9, shift: float = 0.0) -> dict[str, Any]:
    keypoints = [value + (shift if i % 3 < 2 else 0) for i, value in enumerate(annotation["keypoints"])]
    return {
        "image_id": annotation["image_id"],
        "category_id": 1,
        "keypoints": keypoints,
        "score": score,
    }


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "name",
    [
        *("coco_mild", "coco_hard", "coco_perfect", "coco_manyfp", "coco_zero_score_kpts"),
        *("val2017sub_mild", "val2017sub_hard", "xtcoco_example_coco", "cocoapi_fake100"),
    ],
)
def test_golden_coco_metrics(golden_dir: Path, name: str, backend: str):
    golden = read(golden_dir / "h_eval_stats.json")["coco"][name]
    truth_file = golden_dir / golden["gt"]
    if name.startswith("val2017"):
        results = stored_results(golden_dir / "h_val2017sub_dets.npz", name)
    elif name in SHIPPED:
        results = read(truth_file.with_name(SHIPPED[name]))
    else:
        results = read(golden_dir / "h_coco_dets.json")[name]
    metrics = Evaluator("coco", backend)(read(truth_file), results, COCO)
    assert list(metrics) == COCO_NAMES
    assert list(metrics.values()) == pytest.approx(golden["pycocotools"], abs=1e-6)


@pytest.mark.parametrize("name", ["crowd_mild", "crowd_zero_score_kpts", "example_crowdpose"])
def test_golden_crowdpose_metrics(golden_dir: Path, shared_data: Path, name: str):
    if name in SHIPPED:
        truth_file = shared_data / "results" / "fce_example_crowdpose_val.json"
        results = read(truth_file.with_name(SHIPPED[name]))
    else:
        truth_file = shared_data / "crowdpose" / "json" / "crowdpose_val.json.gz"
        results = stored_results(golden_dir / "h_crowdpose_dets.npz", name)
    metrics = Evaluator("crowdpose")(read(truth_file), results, CROWDPOSE)
    golden = read(golden_dir / "h_eval_stats.json")["crowdpose"][name]
    assert list(metrics) == CROWDPOSE_NAMES
    assert list(metrics.values()) == pytest.approx(golden["crowdposetools"], abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_published_metrics_of_cocoapi(shared_data: Path, backend: str):
    folder = shared_data / "results"
    metrics = Evaluator("coco", backend)(
        read(folder / "person_keypoints_val2014_first100.json"),
        read(folder / "person_keypoints_val2014_fakekeypoints100_results.json"),
        COCO,
    )
    published = [0.372, 0.636, 0.348, 0.384, 0.386, 0.514, 0.734, 0.504, 0.508, 0.522]
    assert [round(value, 3) for value in metrics.values()] == published


def test_published_metrics_of_four_crowdpose_images(shared_data: Path):
    folder = shared_data / "results"
    metrics = Evaluator("crowdpose")(
        read(folder / "fce_example_crowdpose_val.json"),
        read(folder / "fce_example_crowdpose_preds.json"),
        CROWDPOSE,
    )
    published = [0.7877, 0.9881, 0.7314, 0.8222, 1.0, 0.7778, 1.0, 0.9802, 0.4116]
    assert [round(value, 4) for value in metrics.values()] == published


@pytest.mark.parametrize("backend", BACKENDS)
def test_oks_by_hand(backend: str):
    """One keypoint a person, off by d: OKS = exp(-d^2 / (2 area (2 sigma)^2)); here between .75 and .8."""
    skeleton = Skeleton.from_dict({"name": "dot", "keypoints": ["dot"], "sigmas": [0.1]})
    annotation = person(0, 100, 100, keypoints=1)
    oks = 0.77
    distance = np.sqrt(-2 * annotation["area"] * 0.2**2 * np.log(oks)) / np.sqrt(2)
    metrics = Evaluator("coco", backend)(
        truth(annotation, keypoints=1), [result(annotation, shift=distance)], skeleton
    )
    assert metrics["AP50"] == metrics["AP75"] == pytest.approx(1.0)
    assert metrics["AR"] == pytest.approx(0.6)  # .50 .55 .60 .65 .70 .75 of ten thresholds


@pytest.mark.parametrize(
    ("protocol", "backend"), [("coco", BACKENDS[0]), ("coco", BACKENDS[1]), ("crowdpose", BACKENDS[0])]
)
def test_no_results(protocol: str, backend: str):
    skeleton = COCO if protocol == "coco" else CROWDPOSE
    k = skeleton.num_keypoints
    metrics = Evaluator(protocol, backend)(truth(person(0, 10, 10, keypoints=k), keypoints=k), [], skeleton)
    assert metrics["AP"] == metrics["AR"] == 0.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_people_to_find(backend: str):
    metrics = Evaluator("coco", backend)(truth(), [result(person(1, 10, 10))], COCO)
    assert set(metrics.values()) == {-1.0}


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_annotation_with_id_zero_counts(backend: str):
    annotation = person(0, 100, 100)
    assert Evaluator("coco", backend)(truth(annotation), [result(annotation)], COCO)["AP"] == pytest.approx(
        1.0
    )


def test_a_false_person_on_an_empty_image_costs_precision_not_recall():
    annotation = person(0, 100, 100)
    results = [result(annotation, score=0.5), result(person(1, 50, 50), score=0.9)]
    metrics = Evaluator()(truth(annotation), results, COCO)
    assert metrics["AP"] == pytest.approx(0.5)
    assert metrics["AR"] == pytest.approx(1.0)


def test_crowding_divides_images_and_is_minus_one_where_there_are_none():
    k = CROWDPOSE.num_keypoints
    easy, hard = person(0, 50, 50, keypoints=k), person(2, 50, 50, keypoints=k)
    metrics = Evaluator("crowdpose")(truth(easy, hard, keypoints=k), [result(easy)], CROWDPOSE)
    assert metrics["AP_easy"] == pytest.approx(1.0)
    assert metrics["AP_hard"] == 0.0
    assert metrics["AP_medium"] == -1.0


def test_crowdpose_uses_the_files_number_of_keypoints_if_there_is_one():
    k = CROWDPOSE.num_keypoints
    seen, ignored = person(0, 50, 50, keypoints=k), person(0, 250, 250, keypoints=k) | {"num_keypoints": 0}
    metrics = Evaluator("crowdpose")(truth(seen, ignored, keypoints=k), [result(seen)], CROWDPOSE)
    assert metrics["AR"] == pytest.approx(1.0)
    del ignored["num_keypoints"]
    metrics = Evaluator("crowdpose")(truth(seen, ignored, keypoints=k), [result(seen)], CROWDPOSE)
    assert metrics["AR"] == pytest.approx(0.5)


def test_other_categories_do_not_matter():
    annotation = person(0, 100, 100)
    ground_truth = truth(annotation)
    ground_truth["categories"] = [
        {"id": 7, "name": "person", "keypoints": list(COCO.keypoints)},
        {"id": 1, "name": "dog"},
    ]
    ground_truth["annotations"][0]["category_id"] = 7
    ground_truth["annotations"].append(
        {"id": 5, "image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81}
    )
    found = result(annotation) | {"category_id": 7}
    assert Evaluator()(ground_truth, [found], COCO)["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_printed_and_the_inputs_are_not_written_to(
    capfd: pytest.CaptureFixture[str], backend: str
):
    annotation = person(0, 100, 100)
    ground_truth, results = truth(annotation), [result(annotation)]
    before = copy.deepcopy((ground_truth, results))
    Evaluator("coco", backend)(ground_truth, results, COCO)
    assert capfd.readouterr().out == ""
    assert (ground_truth, results) == before


def test_results_of_other_images():
    with pytest.raises(ValueError, match=r"1 images that are not in the ground truth \(image_id 99\)"):
        Evaluator()(truth(person(0, 10, 10)), [result(person(99, 10, 10))], COCO)


def test_results_of_another_skeleton():
    with pytest.raises(ValueError, match="expected 51 numbers"):
        Evaluator()(truth(person(0, 10, 10)), [result(person(0, 10, 10, keypoints=14))], COCO)
    with pytest.raises(ValueError, match="no category with the 14 keypoints"):
        Evaluator()(truth(person(0, 10, 10)), [], CROWDPOSE)


def test_fields_a_protocol_needs():
    ground_truth = truth(person(0, 10, 10))
    del ground_truth["annotations"][0]["area"]
    with pytest.raises(ValueError, match="expected 'area' in every annotation"):
        Evaluator()(ground_truth, [], COCO)
    ground_truth = truth(person(0, 10, 10, keypoints=14), keypoints=14)
    del ground_truth["images"][1]["crowdIndex"]
    with pytest.raises(ValueError, match="crowdIndex of every image"):
        Evaluator("crowdpose")(ground_truth, [], CROWDPOSE)


@pytest.mark.parametrize(("protocol", "backend"), [("crowdpose", "pycocotools"), ("coco", "crowdposetools")])
def test_backends_that_would_be_wrong(protocol: str, backend: str):
    with pytest.raises(ValueError, match=f"'{protocol}': expected one of 'faster-coco-eval'.*{backend}"):
        Evaluator(protocol, backend)


def test_a_backend_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    for module in ("crowdposetools", "crowdposetools.coco"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match="needs the package crowdposetools"):
        Evaluator("crowdpose", "crowdposetools")(truth(keypoints=14), [], CROWDPOSE)
