"""The decoding study: errors as stated, the same ones for every variant, and the files with the results."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from crowd_growth import crowd_growth
from crowds import Crowd
from decoding_study import decoding_study, nodes_of, noise_of, variants_of
from noise import Background, NoiseModel, NoisyNetwork, draw_scene
from variants import Study, compare

from swahr.cli.command import compose_config
from swahr.geometry import Affine
from swahr.grouping import GatedGrouping, OfficialGrouping
from swahr.skeleton import COCO
from swahr.structures import Annotations, Groups, Poses

QUIET = NoiseModel(
    height=(1.0, 1.0), width=0.0, scale_map=0.0, shift=0.0, background=0.0, missing=0.0, faint=0.0,
    spurious=0.0, tag_gap=2.0, tag_spread=0.0,
)  # fmt: skip
NO_NOISE = [
    "noise.height=[1.0,1.0]",
    *(
        f"noise.{name}=0"
        for name in ("width", "scale_map", "shift", "background", "missing", "spurious", "tag_spread")
    ),
]
PEOPLE = [[(21, 33, 300), (201, 31, 180), (403, 207, 90)], [(300, 60, 250)], [(7, 9, 60), (411, 50, 350)]]


def crowd(people: int = 2, size: tuple[int, int] = (480, 640)) -> Crowd:
    """People side by side, each keypoint at its own place."""
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(5)), axis=-1).reshape(-1, 2)[:17] * 40.0 + 30.3
    keypoints = np.stack([grid + np.array([200.0, 7.0]) * i for i in range(people)])
    visibility = np.full((people, 17), 2)
    visibility[:, 3] = 0
    return Crowd(7, size, Annotations(keypoints, visibility, np.full(people, 3e4)))


def network(noise: NoiseModel, alignment: str = "centre") -> NoisyNetwork:
    return NoisyNetwork(
        draw_scene(crowd(), noise, COCO, np.random.default_rng(0)),
        input_from_image=Affine.identity(),
        flip_permutation=COCO.flip_permutation,
        strides=(4, 2),
        centre="unbiased",
        alignment=alignment,
        sigma=2.0,
        background=Background(17, (256, 320), noise.background, np.random.default_rng(0)),
        seed=3,
    )


def marked(size: tuple[int, int] = (512, 640)) -> torch.Tensor:
    image = torch.zeros(1, 3, *size, dtype=torch.uint8)
    image[..., size[1] // 2 :] = 255
    return image


def test_without_noise_the_maps_of_the_mirror_image_are_mirrored():
    predict = network(replace(QUIET, height=(0.4, 1.0), width=0.2))
    for straight, mirrored in zip(predict(marked()), predict(marked().flip(3)), strict=True):
        back = mirrored.heatmaps.flip(3)[:, list(COCO.flip_permutation)]
        torch.testing.assert_close(back, straight.heatmaps, rtol=0, atol=1e-5)
        assert straight.heatmaps.amax() > 0.4


def test_every_keypoint_has_its_height_width_tag_and_scale_map_value():
    noise = replace(QUIET, height=(0.4, 1.0), width=0.2, tag_spread=0.3)
    scene = draw_scene(crowd(), noise, COCO, np.random.default_rng(0))
    coarse, fine = network(noise)(marked())
    assert (coarse.stride, fine.stride, fine.tags) == (4, 2, None)
    for i, (keypoint, (x, y)) in enumerate(zip(scene.keypoint, scene.points, strict=True)):
        assert coarse.tags[0, keypoint, int(y / 4), int(x / 4)] == pytest.approx(scene.tags[0, i], abs=1e-5)
        assert fine.scale_maps[0, keypoint, int(y / 2), int(x / 2)] == pytest.approx(
            scene.width[i] ** -2 - 1, abs=1e-5
        )
        off_centre = np.hypot(int(x / 2) + 0.5 - x / 2, int(y / 2) + 0.5 - y / 2)
        expected = scene.height[i] * np.exp(-(off_centre**2) / (2 * (2 * scene.width[i]) ** 2))
        assert fine.heatmaps[0, keypoint, int(y / 2), int(x / 2)] == pytest.approx(expected, abs=1e-5)


def test_errors_are_as_frequent_and_as_large_as_stated():
    noise = replace(
        QUIET, height=(0.5, 0.9), shift=0.5, missing=0.2, faint=0.1, spurious=0.3, width=0.1, tag_spread=0.25
    )
    scenes = [draw_scene(crowd(), noise, COCO, np.random.default_rng(seed)) for seed in range(300)]
    height = np.concatenate([scene.height[scene.person >= 0] for scene in scenes])
    assert (height < 0.1).mean() == pytest.approx(0.2, abs=0.02)
    assert height[height > 0.1].min() >= 0.5
    assert height.max() <= 0.9
    assert np.mean([(scene.person < 0).sum() / 32 for scene in scenes]) == pytest.approx(0.3, abs=0.03)
    shifts = np.stack([scene.shown - crowd().people.keypoints for scene in scenes])
    expected = 0.5 * np.array(COCO.sigmas) * np.sqrt(3e4)
    present = np.arange(17) != 3
    np.testing.assert_allclose(shifts[:, :, present].std(axis=(0, 1, 3)), expected[present], rtol=0.12)
    assert np.isnan(shifts[:, :, 3]).all()
    assert np.log(np.concatenate([scene.width for scene in scenes])).std() == pytest.approx(0.1, rel=0.05)
    spread = np.concatenate([(s.tags[0] - s.tags[1])[s.person >= 0] for s in scenes]).std()
    assert spread == pytest.approx(0.25 * np.sqrt(2), rel=0.05)


def test_background_is_as_strong_as_stated_and_another_in_the_mirror():
    predict = network(replace(QUIET, height=(0.0, 0.0), background=0.02))
    straight, mirrored = (predict(image)[1].heatmaps for image in (marked(), marked().flip(3)))
    assert straight.std() == pytest.approx(0.02, rel=0.1)
    assert not torch.allclose(straight, mirrored.flip(3)[:, list(COCO.flip_permutation)], atol=0.01)


@pytest.fixture(scope="module")
def quiet_run(tmp_path_factory, write_people) -> Path:
    """The folder of a study of synthetic people without noise."""
    folder = tmp_path_factory.mktemp("study")
    file = write_people(folder / "people.json", PEOPLE)
    overrides = ["crowds.people=[1,35]", "crowds.repeats=2", "processes=1", "folds=3", *NO_NOISE]
    config = compose_config("decoding_study", [f"coco={file}", f"output={folder / 'run'}", *overrides])
    decoding_study(config)
    return folder / "run"


@pytest.fixture(scope="module")
def quiet_rows(quiet_run: Path) -> dict[str, dict[str, str]]:
    stamp, *lines = (quiet_run / "study.csv").read_text().splitlines()
    assert {"commit", "seed", "sha256", "noise"} <= set(json.loads(stamp.removeprefix("# ")))
    return {row["variant"]: row for row in csv.DictReader(lines)}


def test_without_noise_everybody_is_found_by_every_variant(quiet_rows):
    assert len(quiet_rows) == len(compose_config("decoding_study").variants)
    for name, row in quiet_rows.items():
        assert int(row["people"]) == int(row["found"]), name
        assert float(row["AP50"]) == pytest.approx(1.0), name
    assert float(quiet_rows["dark"]["AP"]) == pytest.approx(1.0)


def test_without_noise_the_geometry_shows(quiet_rows):
    """In input pixels: quantisation, what refinement leaves of it, the shift by official mirror images."""
    error = {name: float(row["error_large"]) for name, row in quiet_rows.items()}
    assert error["dark"] < 0.05 < error["quarter"] < error["none"] < 1.1
    assert error["stride_4_dark"] < 0.1 < error["stride_4_quarter"] < error["stride_4_none"] < 2.2
    bias = {name: (float(row["bias_x"]), float(row["bias_y"])) for name, row in quiet_rows.items()}
    assert bias["dark"] == pytest.approx((0, 0), abs=0.02)
    assert bias["official_projected_dark"][0] == pytest.approx(0.5, abs=0.25)
    assert quiet_rows["dark"]["images"] == "3"
    assert quiet_rows["official_dark"]["images"] == "2"


def test_the_tables_and_the_figure_show_every_variant(quiet_run: Path, quiet_rows):
    tables = (quiet_run / "tables.md").read_text()
    assert all(f"`{name}`" in tables for name in quiet_rows)
    stamp = json.loads((quiet_run / "study.csv").read_text().splitlines()[0].removeprefix("# "))
    assert tables.count(f"commit {stamp['commit']}, torch") == tables.count("###") == 3
    assert (quiet_run / "study.png").stat().st_size > 10_000
    assert (quiet_run / "crowds.csv").read_text().count("\n") == 2 + 4


def test_several_processes_find_what_one_finds(tmp_path: Path, repository: Path, write_people):
    file = write_people(tmp_path / "people.json", PEOPLE)
    options = [f"coco={file}", "crowds.people=[1]", "crowds.repeats=1", "seed=4"]
    command = [sys.executable, "experiments/decoding_study.py", *options, f"output={tmp_path / 'two'}"]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    decoding_study(compose_config("decoding_study", [*options, "processes=1", f"output={tmp_path / 'one'}"]))
    one, two = ((tmp_path / run / "study.csv").read_text().splitlines()[1:] for run in ("one", "two"))
    assert one == two


def test_all_variants_meet_the_same_errors(annotation_file):
    config = compose_config("decoding_study")
    variants = {variant.name: variant for variant in variants_of(config)}
    file, settings = str(annotation_file(PEOPLE)), (nodes_of(config), noise_of(config), 1, None)
    alone = Study(file, [variants["dark"]], *settings)
    among = Study(file, list(variants.values()), *settings)
    for image in range(3):
        poses = [study(image)["dark"].poses for study in (alone, among)]
        np.testing.assert_array_equal(poses[0].keypoints, poses[1].keypoints)


def test_counts_of_recovered_keypoints():
    """Person 0 is found twice. Of its best pose three keypoints were recovered, one of them far away."""
    scene = draw_scene(crowd(1), QUIET, COCO, np.random.default_rng(0))
    keypoints = np.repeat(crowd(1).people.keypoints, 2, axis=0)
    keypoints[0, 5] += 200.0
    keypoints[1, :12] += 90.0
    present = np.ones((2, 17), dtype=bool)
    before = present.copy()
    before[0, [3, 4, 5]] = False  # 3 is not labelled
    before[1, [0, 1]] = False
    poses = Poses(keypoints, np.ones((2, 17)), np.ones(2), present, COCO)
    outcome = compare(
        poses, Groups(keypoints, np.ones((2, 17)), before, np.zeros((2, 1))), crowd(1), scene, 2.0, COCO
    )
    assert outcome.filled == (1, 1, 1, 2)
    assert len(outcome.offsets) == 16
    assert sorted(np.unique(outcome.offsets[:, 1:]).tolist()) == [0.0, 400.0]


def test_growing_crowds_make_ghosts_by_the_official_rule_only():
    noise = replace(QUIET, height=(0.4, 1.0), tag_spread=0.1)
    indices = COCO.grouping_indices
    rules = {"gated": GatedGrouping(indices), "official": OfficialGrouping(indices)}
    rows = crowd_growth([crowd(2)], rules, noise, people=[5, 30, 40], repeats=1, seed=0)
    found = {(row["people"], row["grouping"]): row["found"] for row in rows}
    assert [found[n, "gated"] for n in (5, 30, 40)] == [5, 30, 40]
    assert [found[n, "official"] for n in (5, 30)] == [5, 30]
    assert found[40, "official"] > 100


def test_no_annotations():
    with pytest.raises(ValueError, match="no annotations: expected coco=FILE"):
        decoding_study(compose_config("decoding_study"))
