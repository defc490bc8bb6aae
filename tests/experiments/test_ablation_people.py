"""The ablation of single-person networks: behind a bottom-up network, and on annotated people."""

import hashlib
import json
from pathlib import Path

import pytest
from ablation import ablation
from ablation_parts.people import _configuration, _exchanged
from ablation_parts.plan import resolved, runs_of
from omegaconf import DictConfig, OmegaConf

from swahr.cli.command import compose_config
from swahr.cli.evaluate import evaluate
from swahr.cli.train import train
from swahr.files import read_json, write_json

SIZES = ["data.module.train.size=2", "data.module.val.size=1", "training.callbacks.pictures=null"]
PERSON = [
    "experiment=person_crops",
    *SIZES,
    "data.module.train.image_size=[64,64]",
    "data.module.augmentation.input_size=[64,32]",
    "data.module.batch_size=2",
    "data.module.workers=0",
    "trainer.max_epochs=1",
    "trainer.check_val_every_n_epoch=1",
    "trainer.accelerator=cpu",
]
ROOT = Path(__file__).parents[2]
TEST = {"data.module.val.seed": 5, "data.module.val.size": 3}


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A bottom-up network that has learned nothing."""
    folder = tmp_path_factory.mktemp("first")
    train(compose_config("train", ["experiment=smoke", *SIZES, f"output={folder / 'run'}"]))
    return folder / "run" / "best.safetensors"


def plan(folder: Path, first: Path) -> DictConfig:
    """A plan of one run of seconds."""
    places = [f"data_root={folder}", f"output={folder / 'runs'}", f"results={folder / 'results'}"]
    config = compose_config("ablation_people", [f"first={first}", "resamples=20", *places])
    OmegaConf.set_struct(config, False)
    config.train, config.tests = PERSON, {"others": TEST}
    config.anatomy = {"data.module.val.seed": 7, "data.module.val.size": 30}
    config.variants = [{"name": "plain", "overrides": [], "seeds": [0]}]
    config.decodings.max_sum = None  # its file fits crops of another shape
    for way in ("first", "both", "pose_nms"):
        for key in ("data", "data.layouts"):  # those of the first network's checkpoint
            del config.decodings[way][key]
    return config


def test_single_person_networks_are_tested_behind_a_bottom_up_network(first, tmp_path):
    ablation(plan(tmp_path, first))
    found = read_json(tmp_path / "results" / "plain_0.json")
    metrics = found["tests"]["others"]["metrics"]
    assert list(metrics)[:4] == ["first", "both", "pose_nms", "annotated"]
    settings = [f"{key}={value}" for key, value in TEST.items()]
    alone = [f"checkpoint={first}", f"output={tmp_path / 'alone'}", *settings]
    assert metrics["first"]["coco"]["AP"] == pytest.approx(
        evaluate(compose_config("evaluate", alone)), abs=1e-6
    )
    of_people = metrics["both"]["people"]
    assert of_people.keys() == {
        "PCKh", "AP_visible", "AP_occluded", "implausible", "implausible_annotated",
    }  # fmt: skip
    assert 0 <= of_people["PCKh"] <= 1
    (one,) = found["differences"]
    assert (one["run"], one["against"], one["test"]) == ("plain_0", "first", "others")
    expected = metrics["both"]["coco"]["AP"] - metrics["first"]["coco"]["AP"]
    assert one["metrics"]["AP"]["value"] == pytest.approx(expected, abs=2e-5)
    assert found["first"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert str(first) not in json.dumps(found)
    assert str(tmp_path) not in json.dumps(found)


def test_every_shipped_use_has_the_same_images(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    choices = resolved(compose_config("ablation_people", [f"data_root={tmp_path}"]), {})
    person = Path("notebooks/weights/structured.safetensors")
    sources = {}
    for way, changes in choices["decodings"].items():
        if "checkpoint" in changes:
            sources[way] = _configuration(
                person, {**choices["tests"]["coco_val"], **changes}, tmp_path
            ).data.module.val
    assert sources.keys() == {"first", "both", "pose_nms", "max_sum"}
    for source in sources.values():
        assert source == sources["first"]
        assert source.layouts == f"{tmp_path}/layouts/coco_person_keypoints_val2017.json.gz"
        assert (source.size, source.seed) == (300, 2)


def test_keypoints_and_scores_are_exchanged_only_if_all_people_are_known():
    first = [{"image_id": 1, "keypoints": [1], "score": 0.1}, {"image_id": 2, "keypoints": [2], "score": 0.2}]
    both = [{"image_id": 1, "keypoints": [3], "score": 0.3}, {"image_id": 2, "keypoints": [4], "score": 0.4}]
    found = _exchanged(first, both)
    assert [(one["keypoints"], one["score"]) for one in found["rescored"]] == [([1], 0.3), ([2], 0.4)]
    assert [(one["keypoints"], one["score"]) for one in found["refined"]] == [([3], 0.1), ([4], 0.2)]
    assert _exchanged(first, both[:1]) == {}


def test_results_behind_two_first_stages_are_not_one_table(first, tmp_path):
    config = plan(tmp_path, first)
    config.variants = [{"name": "plain", "overrides": [], "seeds": [0, 1]}]
    config.page = str(tmp_path / "page.md")
    for run, digest in zip(runs_of(config), ("a", "b"), strict=True):
        stamp = {"trained_with": {"proposals.json": digest}}
        write_json(run.result, {**run.recorded, "name": run.name, "first": digest, "stamp": stamp})
    with pytest.raises(
        ValueError, match="expected one bottom-up network before all others, got results with 2"
    ):
        ablation(config)
    for run in runs_of(config):
        write_json(run.result, read_json(run.result) | {"first": "a"})
    with pytest.raises(ValueError, match=r"plain_0 and plain_1 .* different files proposals\.json"):
        ablation(config)


def test_other_images_behind_the_first_stage_are_an_error(first, tmp_path):
    config = plan(tmp_path, first)
    config.train = [item for item in PERSON if "image_size" not in item]
    with pytest.raises(ValueError, match="expected the same images for first and annotated"):
        ablation(config)


def test_without_the_first_stage_nothing_is_trained(tmp_path):
    with pytest.raises(ValueError, match=r"first=.*none\.safetensors: expected a bottom-up network"):
        ablation(plan(tmp_path, tmp_path / "none.safetensors"))
