"""`swahr fit-deformation`, and its file as a setting of the second stage."""

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from swahr import Predictor, load_checkpoint
from swahr.checkpoint import describe_run, save_checkpoint
from swahr.second_stage import read_deformation, spanning_tree
from swahr.skeleton import COCO

SMALL_CROWDS = ("data.module.train.size=2", "data.module.train.image_size=[64,64]", "data.module.val.size=1")
NOISE = 0.03


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """People whose boxes have the crops' ratio 2, and their mean pose in sides of the box.

    Left wrists lie elsewhere where they are not labelled, and in a crowd region.
    """
    rng = np.random.default_rng(0)
    body = rng.uniform(0.2, 0.8, (17, 2))
    body[0], body[16] = 0, 1  # the nose and the right ankle are the corners of the box
    people: list[dict[str, Any]] = []
    for image_id in range(1, 201):
        pose = body + rng.normal(0, NOISE, body.shape)
        pose[[0, 16]] = body[[0, 16]]
        points = pose * rng.uniform(40, 100) * np.array([1, 2]) + rng.uniform(0, 100, 2)
        low, high = points.min(axis=0), points.max(axis=0)
        visibility = np.full(17, 2)
        visibility[9] = 0 if image_id % 2 else 2
        points[9] = 0 if image_id % 2 else points[9]
        people.append(
            {"id": image_id, "image_id": image_id, "category_id": 1, "iscrowd": int(image_id == 200),
             "num_keypoints": int(visibility.sum() // 2), "bbox": [*low.tolist(), *(high - low).tolist()],
             "area": float(np.prod(high - low)),
             "keypoints": np.column_stack([points, visibility]).ravel().tolist()}
        )  # fmt: skip
    people[-1]["keypoints"] = np.column_stack([rng.uniform(0, 300, (17, 2)), np.full(17, 2)]).ravel().tolist()
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 400, "width": 400} for i in range(1, 201)]
    path = tmp_path_factory.mktemp("planted") / "people.json"
    content = {"images": images, "annotations": people, "categories": [COCO.to_category()]}
    path.write_text(json.dumps(content))
    return path, body


def command(annotations: Path, output: Path, *more: Any) -> list[Any]:
    crops = () if "--crop-size" in more else ("--crop-size", 64, 32)
    return ["fit-deformation", "--annotations", annotations, "--output", output, *crops, *more]


@pytest.fixture(scope="session")
def fitted(swahr, planted, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("fitted") / "out"
    assert swahr(*command(planted[0], output)).result["people"] == 199
    return output / "deformation.json"


def test_the_planted_distribution_and_the_figure(swahr, planted, fitted):
    _, body = planted
    found = read_deformation(fitted, COCO, crop_size=(64, 32), enlarge=1.3)
    for child, parent in enumerate(spanning_tree(COCO).parents):
        if parent >= 0:
            # Divided by the enlarged box; the corners of the box do not move in it.
            np.testing.assert_allclose(found.rest[child], (body[child] - body[parent]) / 1.3, atol=0.01)
            noisy = len({child, parent} - {0, 16})
            expected = 1 / (2 * noisy * (NOISE / 1.3) ** 2)
            np.testing.assert_allclose(found.weight[child], expected, rtol=0.4)
    content = json.loads(fitted.read_text())
    assert content["settings"] == {"crop_size": [64, 32], "enlarge": 1.3}
    assert set(content["provenance"]["sha256"]) == {"people.json"}
    assert content["parents"][9] == "left_elbow"
    picture = cv2.imread(str(fitted.parent / "limbs.png"))
    assert picture.shape == (1060, 1140, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert "holds files of another run" in swahr(*command(planted[0], fitted.parent)).error


def test_the_ratio_of_the_crops_counts(swahr, planted, tmp_path):
    """Boxes of ratio 2 fill half of the width of square crops."""
    path, body = planted
    swahr(*command(path, tmp_path / "out", "--crop-size", 64, 64, "--enlarge", 1))
    found = read_deformation(tmp_path / "out/deformation.json", COCO, crop_size=(64, 64), enlarge=1.0)
    expected = (body[7] - body[5]) * (0.5, 1)
    np.testing.assert_allclose(found.rest[7], expected, atol=0.01)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--crop-size", 0, 64], "expected --crop-size of at least 1 1 and --enlarge above 0"),
        (["--enlarge", "nan"], "expected --crop-size of at least 1 1 and --enlarge above 0"),
        (["--annotations", "nothing.json"], "nothing.json: expected a COCO-format annotation file"),
    ],
)
def test_bad_input_leaves_no_folder(swahr, planted, tmp_path, more, message):
    assert message in swahr(*command(planted[0], tmp_path / "out", *more)).error
    assert not (tmp_path / "out").exists()


def test_too_few_people(swahr, planted, tmp_path):
    content = json.loads(planted[0].read_text())
    (tmp_path / "few.json").write_text(json.dumps(content | {"annotations": content["annotations"][:1]}))
    error = swahr(*command(tmp_path / "few.json", tmp_path / "out", "--insist")).error
    assert (
        "expected at least two people with both keypoints of a limb, but no limb has them in 1 people"
        in error
    )


def keypoints(folder: Path) -> list[list[float]]:
    return [one["keypoints"] for one in json.loads((folder / "results.json").read_text())]


@pytest.mark.parametrize("name", ["coco", "nine"])
def test_evaluate_and_predict_use_the_file_and_name_it(
    name, swahr, small, person_settings, nine_keypoint_dataset, request, photos, tmp_path
):
    if name == "coco":
        first, person = request.getfixturevalue("checkpoint"), request.getfixturevalue("person")["best"]
        path = request.getfixturevalue("fitted")
    else:
        data = ("data=custom", f"data.root={nine_keypoint_dataset}")
        first = swahr("train", *data, *small, "grouping.peaks.threshold=-1", "output=t").result["best"]
        person = swahr("train", *data, *person_settings, "output=u").result["best"]
        fit = swahr(*command(nine_keypoint_dataset / "train.json", Path("f")))
        path = Path(fit.result["output"]).absolute() / "deformation.json"
    digest, setting = hashlib.sha256(path.read_bytes()).hexdigest(), f"second_stage.deformation={path}"
    both = (f"checkpoint={first}", "second_stage=crops", f"second_stage.checkpoint={person}")
    for kind, networks in (("both", both), ("annotated", (f"checkpoint={person}",))):
        swahr("evaluate", *networks, "pictures=0", f"output={kind}/plain").result  # noqa: B018 - it succeeds
        changed = swahr("evaluate", *networks, setting, "pictures=0", f"output={kind}/tree")
        assert "AP" in changed.result
        plain, tree = keypoints(Path(kind, "plain")), keypoints(Path(kind, "tree"))
        assert plain != tree
        assert len(tree) > 0
        stamp = json.loads(Path(kind, "tree/metrics.json").read_text())["stamp"]
        assert stamp["sha256"]["deformation.json"] == digest
    swahr("predict", *both, setting, photos, "draw=false", "output=p").result  # noqa: B018 - it succeeds
    content = json.loads(Path("p/poses.json").read_text())
    assert content["info"]["sha256"]["deformation.json"] == digest
    predictor = Predictor.from_checkpoint(first, second_stage=person, overrides=[setting])
    found = predictor.predict(sorted(photos.iterdir()))
    scores = [round(float(score), 4) for poses in found for score in poses.score]
    assert scores == [entry["score"] for entry in content["annotations"]]
    assert len(scores) > 0


def test_a_joined_checkpoint_takes_the_setting_and_holds_no_file(swahr, checkpoint, person, fitted, tmp_path):
    both = tmp_path / "both.safetensors"
    swahr("join", f"first={checkpoint}", f"second={person['best']}", f"output={both}").result  # noqa: B018 - it succeeds
    setting = f"second_stage.deformation={fitted}"
    swahr("evaluate", f"checkpoint={both}", setting, "pictures=0", "output=e").result  # noqa: B018 - it succeeds
    assert "deformation.json" in json.loads(Path("e/metrics.json").read_text())["stamp"]["sha256"]


def test_checkpoints_depend_on_no_file(swahr, person, person_settings, fitted, tmp_path):
    """Training does not have the setting, reading ignores a path, and older checkpoints have it, too."""
    setting = f"second_stage.deformation={fitted}"
    error = swahr("train", *person_settings, *SMALL_CROWDS, setting, "output=t").error
    assert "there is no key 'second_stage.deformation'" in error
    known = load_checkpoint(person["best"])
    own = {key: value for key, value in known.config["second_stage"].items() if "deformation" not in key}
    for change in ({}, {"deformation": "elsewhere.json"}):
        path = tmp_path / "other.safetensors"
        config = known.config | {"second_stage": own | change}
        save_checkpoint(path, known.weights, describe_run(config, known.facts, known.skeleton, known.stamp))
        assert load_checkpoint(path).config["second_stage"] == known.config["second_stage"]


def test_the_setting_needs_a_second_stage_and_a_fitting_file(swahr, checkpoint, person, fitted, tmp_path):
    with pytest.raises(ValueError, match=r"deformation\.json: expected a second stage, got none"):
        Predictor.from_checkpoint(checkpoint, overrides=[f"second_stage.deformation={fitted}"])
    with pytest.raises(ValueError, match=r"second_stage\.flip=False: expected a second stage, got none"):
        Predictor.from_checkpoint(checkpoint, overrides=["second_stage.flip=false"])
    both = (f"checkpoint={checkpoint}", "second_stage=crops", f"second_stage.checkpoint={person['best']}")
    other = tmp_path / "other.json"
    names = [*COCO.keypoints[1:], COCO.keypoints[0]]
    other.write_text(json.dumps(json.loads(fitted.read_text()) | {"keypoints": names}))
    for number, (value, message) in enumerate(
        [
            ("nothing.json", "nothing.json: expected the deformation.json that swahr fit-deformation writes"),
            (other, "expected the keypoints of skeleton 'coco'"),
            ("3", "deformation=3: expected text or null"),
            (
                f"{fitted} second_stage.enlarge=1.5",
                "fit the deformation with --crop-size 64 32 --enlarge 1.5",
            ),
        ]
    ):
        changes = f"second_stage.deformation={value}".split()
        for kind, networks in (("b", both), ("p", (f"checkpoint={person['best']}",))):
            assert message in swahr("evaluate", *networks, *changes, f"output={kind}{number}").error
