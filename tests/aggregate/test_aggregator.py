"""Merging strides, test scales and mirror images."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swahr.aggregate import Aggregator, aggregator
from swahr.decode import Decoder, KeypointRecovery, SubpixelRefiner
from swahr.geometry import INDEX_FROM_POINT
from swahr.grouping import AssociativeEmbedding, PeakExtractor
from swahr.model import HigherHRNet
from swahr.model.weights import load_published
from swahr.skeleton import COCO
from swahr.structures import Maps, NetworkOutput

CPU = torch.device("cpu")


class Eye:
    """A "network" that sees red (left keypoint) and green (right keypoint), and swaps them in the mirror.

    Which is which depends on the blue channel's gradient, as left and right do on the rest of a person.
    """

    def __init__(self, dtype: torch.dtype = torch.float32, scales: bool = False) -> None:
        self.dtype = dtype
        self.scales = scales
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, images: Tensor) -> NetworkOutput:
        assert images.dtype == torch.uint8
        self.seen.append(tuple(images.shape))
        red, green, blue = (images.float() / 255).unbind(1)
        half = blue.shape[2] // 2
        mirrored = blue[:, :, :half].mean() > blue[:, :, half:].mean()
        pair = torch.stack([green, red] if mirrored else [red, green], dim=1)
        return tuple(self._maps(pair, stride) for stride in (4, 2))

    def _maps(self, pair: Tensor, stride: int) -> Maps:
        heat = F.avg_pool2d(pair, stride).to(self.dtype)
        return Maps(
            heatmaps=heat,
            tags=3 * heat if stride == 4 else None,
            scales=heat + 1 if self.scales else None,
            weights=None,
            stride=stride,
        )


def scene(h: int = 60, w: int = 100, red: tuple[int, int] = (30, 20), green: tuple[int, int] = (70, 40)):
    """A blue ramp from left to right, a red and a green square centred at (x, y)."""
    image = np.zeros((h, w, 3), np.uint8)
    image[..., 2] = np.linspace(0, 100, w).astype(np.uint8)
    for channel, (x, y) in enumerate((red, green)):
        image[y - 4 : y + 4, x - 4 : x + 4, channel] = 255
    return image


def aggregate(**settings) -> Aggregator:
    return Aggregator((1, 0), **({"input_size": 128} | settings))


def centre_of_mass(heatmap: Tensor) -> np.ndarray:
    """In continuous map coordinates, (x, y)."""
    weight = torch.where(heatmap > 0.2, heatmap, torch.zeros_like(heatmap)).numpy().astype(np.float64)
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("test_scales", [(1.0,), (0.5, 1.0, 2.0), (1.0, 1.3)])
def test_convention_what_is_lit_in_the_image_is_found_at_its_place(flip, project, test_scales):
    maps = aggregate(flip=flip, project=project, test_scales=test_scales)(Eye(), [scene()], CPU)
    image_from_map = maps.map_from_image[0].inverse()
    for keypoint, place in enumerate([(30, 20), (70, 40)]):
        found = image_from_map.apply(centre_of_mass(maps.heatmaps[0, keypoint]))
        np.testing.assert_allclose(found, place, atol=0.15)


def test_the_mirror_image_agrees_and_its_tags_are_a_second_dimension():
    image = scene()
    once, twice = aggregate(flip=False)(Eye(), [image], CPU), aggregate(flip=True)(Eye(), [image], CPU)
    assert once.tags.shape[-1] == 1
    assert twice.tags.shape[-1] == 2
    torch.testing.assert_close(twice.heatmaps, once.heatmaps, atol=0.02, rtol=0)
    torch.testing.assert_close(twice.tags[..., 0], once.tags[..., 0], atol=0, rtol=0)
    torch.testing.assert_close(twice.tags[..., 1], twice.tags[..., 0], atol=0.06, rtol=0)


def test_strides_are_averaged_at_the_finest():
    eye, maps = Eye(), aggregate(flip=False)(Eye(), [scene()], CPU)
    warped = aggregator._warp([scene()], *_frame_and_size(), CPU)
    coarse, fine = eye(warped)
    up = F.interpolate(coarse.heatmaps, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(maps.heatmaps, (up + fine.heatmaps) / 2)


def _frame_and_size():
    size = (128, 256)
    return aggregator.input_frame((60, 100), size, "centre"), size


def test_tags_come_from_test_scale_one_and_heatmaps_from_all():
    single = aggregate(test_scales=(1.0,), size_multiple=32)(Eye(), [scene(64, 128)], CPU)
    several = aggregate(test_scales=(1.0, 2.0), size_multiple=32)(Eye(), [scene(64, 128)], CPU)
    assert torch.equal(single.tags, several.tags)
    assert single.heatmaps.shape == several.heatmaps.shape
    assert not torch.equal(single.heatmaps, several.heatmaps)


def test_inputs_have_the_sizes_of_their_test_scales():
    eye = Eye()
    aggregate(test_scales=(0.5, 1.0, 2.0), flip=False)(eye, [scene(), scene()], CPU)
    assert sorted(eye.seen) == [(2, 3, 64, 128), (2, 3, 128, 256), (2, 3, 256, 512)]


@pytest.mark.parametrize("project", [False, True])
def test_scale_maps_pass_when_there_are_any(project):
    assert aggregate(project=project)(Eye(), [scene()], CPU).scales is None
    maps = aggregate(project=project)(Eye(scales=True), [scene()], CPU)
    assert maps.scales is not None
    assert maps.scales.shape == maps.heatmaps.shape
    peak = maps.heatmaps[0, 0].argmax()
    assert maps.scales[0, 0].flatten()[peak] == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize(("project", "size"), [(False, (64, 128)), (True, (128, 256))])
def test_projection_brings_maps_to_the_size_of_the_input(project, size):
    assert tuple(aggregate(project=project)(Eye(), [scene()], CPU).heatmaps.shape[2:]) == size


def test_bfloat16_networks_give_float32_maps():
    maps = aggregate()(Eye(torch.bfloat16, scales=True), [scene()], CPU)
    assert maps.heatmaps.dtype == maps.tags.dtype == maps.scales.dtype == torch.float32


def test_a_batch_gives_what_its_images_give_alone():
    images = [scene(), scene(red=(50, 30), green=(80, 50))]
    together = aggregate()(Eye(), images, CPU)
    assert len(together.map_from_image) == 2
    for i, image in enumerate(images):
        assert torch.equal(aggregate()(Eye(), [image], CPU).heatmaps[0], together.heatmaps[i])


def test_images_of_different_sizes():
    with pytest.raises(ValueError, match="images of one size"):
        aggregate()(Eye(), [scene(60, 100), scene(60, 101)], CPU)
    with pytest.raises(ValueError, match="images of one size"):
        aggregate()(Eye(), [], CPU)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test_scales": (0.5, 2.0)}, "1.0 among test_scales"),
        ({"test_scales": ()}, "positive test_scales"),
        ({"input_size": 0}, "positive input_size"),
        ({"size_multiple": 48}, "multiple of 32"),
    ],
)
def test_bad_settings_of_the_aggregator(values, message):
    with pytest.raises(ValueError, match=message):
        aggregate(**values)


def test_a_network_without_tags():
    def tagless(images: Tensor) -> NetworkOutput:
        _, fine = Eye()(images)
        return (fine, fine)

    with pytest.raises(ValueError, match="switch its tag head on"):
        aggregate()(tagless, [scene()], CPU)


@pytest.fixture(scope="module")
def official(golden_dir: Path):
    """The golden pipeline's network, by case, and its numbers."""
    stored = np.load(golden_dir / "a_model_tiny_swahr17.npz")
    weights = {key[3:]: torch.from_numpy(stored[key]) for key in stored.files if key.startswith("sd/")}
    weights = {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    heads = np.load(golden_dir / "f_head_override.npz")
    weights |= {key: torch.from_numpy(heads[key]).float() for key in heads.files if key.startswith("final")}
    network = HigherHRNet(
        17, scale_head=True, weight_head=False, stem_channels=64, layer1_blocks=4, layer1_channels=64,
        channels=(8, 16, 32, 64), modules=(1, 2, 1), blocks=2, deconv_channels=(8,), deconv_blocks=2,
        modulation_kernel=9, initial_std=0.001,
    ).eval()  # fmt: skip

    def for_case(case: str) -> HigherHRNet:
        bias = {"final_layers.1.bias": torch.from_numpy(heads[f"bias/{case}"])}
        load_published(network, weights | bias, source="golden")
        return network

    return for_case, np.load(golden_dir / "f_pipeline_cv4.npz")


@pytest.mark.parametrize(
    "case",
    [
        "in128_s1_p2i/000000197388",
        "in128_s1_p2i/000000000785",
        "in256_s1_noflip/000000197388",
        "in256_s1_p2i/000000000785",
        "in256_ms_p2i/000000000785",
    ],
)
def test_golden_pipeline(official, golden_dir: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    """Maps of the official test-time pipeline from its own warped inputs; final coordinates of its groups."""
    for_case, golden = official
    about = json.loads((golden_dir / "f_pipeline_cv4.json").read_text())["cases"][case]
    image_id = case.partition("/")[2]
    sizes = {"000000197388": (392, 640), "000000000785": (425, 640)}
    multi_scale = len(about["scale_factor"]) > 1
    aggregate = Aggregator(
        COCO.flip_permutation,
        input_size=about["input_size"],
        test_scales=[float(test_scale) for test_scale in about["scale_factor"]],
        flip=about["flip"],
        project=about["project2image"],
        alignment="official",
    )
    set_name = "in256_ms_p2i" if multi_scale or about["input_size"] == 128 else "in256_s1_p2i"
    stored = [
        cv2.imread(str(file))[..., ::-1] for file in golden_dir.glob(f"f_input_{set_name}_{image_id}_s*.png")
    ]
    inputs = {image.shape[:2]: np.ascontiguousarray(image) for image in stored}
    monkeypatch.setattr(aggregator, "warp_image", lambda image, frame, size: inputs[size])

    maps = aggregate(for_case(case), [np.zeros((*sizes[image_id], 3), np.uint8)], CPU)

    for found, name in ((maps.heatmaps[0], "heat_block_mean"), (maps.tags[0, ..., 0], "tag_block_mean_ch0")):
        np.testing.assert_allclose(F.avg_pool2d(found, 16).numpy(), golden[f"{case}/{name}"], atol=4e-6)
    assert maps.tags.shape[-1] == (2 if about["flip"] else 1)
    if not multi_scale:  # there the official code reads positions by another test scale's factor
        grouped, final = golden[f"{case}/grouped"], golden[f"{case}/final"]
        points = maps.map_from_image[0].inverse().apply(grouped[..., :2])
        np.testing.assert_allclose(INDEX_FROM_POINT.apply(points), final[..., :2], rtol=0, atol=1e-3)


def test_golden_poses_where_no_assignment_ties(official, golden_dir: Path, monkeypatch: pytest.MonkeyPatch):
    for_case, golden = official
    case = "in256_s1_noflip/000000197388"
    file = golden_dir / "f_input_in256_s1_p2i_000000197388_s1.png"
    warped = np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])
    monkeypatch.setattr(aggregator, "warp_image", lambda image, frame, size: warped)
    aggregate = Aggregator(COCO.flip_permutation, 256, flip=False, project=True, alignment="official")
    maps = aggregate(for_case(case), [np.zeros((392, 640, 3), np.uint8)], CPU)
    decode = Decoder(
        COCO,
        extract_peaks=PeakExtractor(),
        group=AssociativeEmbedding(COCO.grouping_indices, rule="official"),
        refine=SubpixelRefiner("quarter"),
        recover=KeypointRecovery(),
    )
    (poses,) = decode(maps)
    found = INDEX_FROM_POINT.apply(poses.keypoints)
    np.testing.assert_allclose(found, golden[f"{case}/final"][..., :2], rtol=0, atol=1e-3)
    np.testing.assert_allclose(poses.score, golden[f"{case}/scores"], rtol=0, atol=1e-5)
