"""The networks that travel with the package are found by their names and find a person in a photograph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from matplotlib import cbook

from swahr import COCO, Predictor, load_checkpoint, weights
from swahr.cli.command import compose_config
from swahr.training.build import build_training
from swahr.trusted import check_targets

NAMES = weights.names()


@pytest.fixture(scope="module")
def portrait() -> Path:
    """Grace Hopper, a photograph in the public domain that travels with matplotlib."""
    return Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def test_the_default_is_one_of_them() -> None:
    assert weights.DEFAULT in NAMES


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("name", NAMES)
def test_each_is_small_has_a_card_and_names_no_path(name: str) -> None:
    checkpoint = load_checkpoint(name)
    check_targets(checkpoint.config, source=name, trust=())
    assert checkpoint.path.stat().st_size < 8e6
    assert {tensor.dtype for tensor in checkpoint.weights.values()} == {torch.float16, torch.int64}
    card = (checkpoint.path.parent / f"{name}.md").read_text(encoding="utf-8")
    assert all(
        heading in card
        for heading in ("## Data", "## Recipe", "## Results", "## Licences", "## Known failures")
    )
    assert checkpoint.config["data"]["root"] == "???"
    assert "overrides" not in checkpoint.stamp
    paths = [text for text in strings(yaml.safe_load(checkpoint.stamp["config"])) if "/" in text]
    assert all(text.startswith("${") for text in paths)


@pytest.mark.parametrize("name", NAMES)
def test_the_person_in_a_photograph_is_found(name: str, portrait: Path) -> None:
    poses = Predictor.from_pretrained(name, device="cpu")(str(portrait))
    best = poses.keypoints[0]
    assert poses.score[0] == max(poses.score) > 3 * sorted(poses.score)[-2]
    expected = {"nose": (268, 236), "left_eye": (305, 187), "right_eye": (223, 191), "left_ear": (356, 230)}
    for keypoint, position in expected.items():
        np.testing.assert_allclose(best[COCO.keypoints.index(keypoint)], position, atol=20)


def test_others_are_unknown() -> None:
    with pytest.raises(ValueError, match=f"name: expected one of '{NAMES[0]}'.*got 'photos_large'"):
        Predictor.from_pretrained("photos_large")
    with pytest.raises(FileNotFoundError, match=f"photos_large: no such checkpoint.*{NAMES[0]} comes"):
        load_checkpoint("photos_large")


def test_a_file_of_the_same_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(NAMES[0]).write_bytes(b"")
    assert weights.located(NAMES[0]) == Path(NAMES[0])
    assert Predictor.from_pretrained(NAMES[0], device="cpu").skeleton == COCO


def test_a_folder_of_the_same_name_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(NAMES[0]).mkdir()
    assert weights.located(NAMES[0]) == weights.packaged(NAMES[0])


def test_fine_tuning_starts_from_one_by_its_name(tmp_path: Path) -> None:
    overrides = [
        "experiment=smoke",
        "model=lite",
        "loss=swahr",
        f"weights={weights.DEFAULT}",
        f"output={tmp_path}",
    ]
    run = build_training(compose_config("train", overrides), tmp_path)
    expected = load_checkpoint(weights.DEFAULT).weights
    found = run.module.network.state_dict()
    assert all(torch.equal(found[name], tensor.to(found[name].dtype)) for name, tensor in expected.items())
    assert f"{weights.DEFAULT}.safetensors" in run.stamp["sha256"]
