"""The published test-time pipeline, from photographs to poses: maps, people and final coordinates."""

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from swahr.aggregate import Aggregator
from swahr.aggregate import inputs as inputs_module
from swahr.decode import Decoder, KeypointRecovery, QuarterOffset
from swahr.geometry import POINT_FROM_INDEX
from swahr.grouping import OfficialGrouping, PeakExtractor
from swahr.model import HeatmapHead, HigherHRNet, HRNet, ScaleMapHead, TagHead
from swahr.model.published import load_published
from swahr.skeleton import COCO
from swahr.structures import DenseMaps, Poses

CPU = torch.device("cpu")
IMAGES = {"000000197388": (392, 640), "000000000785": (425, 640)}
SETTINGS = ["in128_s1_p2i", "in256_s1_p2i", "in256_s1_noflip", "in256_ms_p2i", "in256_ms_nop2i"]
INPUTS_OF = {name: name[:6] + ("ms_p2i" if "ms" in name else "s1_p2i") for name in SETTINGS}
INPUTS_OF["in128_s1_p2i"] = "in256_ms_p2i"  # whose smallest test scale it is


@pytest.fixture(scope="module")
def network(golden_arrays):
    """The golden pipeline's network, with the weights it has in a case."""
    stored = golden_arrays("a_model_tiny_swahr17.npz")
    override = golden_arrays("f_head_override.npz")
    override["final_layers.0.weight"], stored["input"]  # reads both files whole
    weights = {key[3:]: value for key, value in stored.arrays.items() if key.startswith("sd/")}
    weights |= {key: value for key, value in override.arrays.items() if key.startswith("final")}
    tensors = {key: torch.from_numpy(value) for key, value in weights.items()}
    tensors = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    backbone = HRNet(
        stem_channels=64, layer1_blocks=4, layer1_channels=64, channels=(8, 16, 32, 64), modules=(1, 2, 1),
        blocks=2,
    )  # fmt: skip
    heads = {"heatmaps": HeatmapHead, "tags": TagHead, "scale_maps": ScaleMapHead}
    builders = {name: partial(head, num_keypoints=17) for name, head in heads.items()}
    built = HigherHRNet(backbone, builders, deconv_channels=(8,), deconv_blocks=2).eval()

    def for_case(case: str) -> HigherHRNet:
        bias = {"final_layers.1.bias": torch.from_numpy(override[f"bias/{case}"])}
        load_published(built, tensors | bias, source="golden")
        return built

    return for_case


def run(network: HigherHRNet, about: dict[str, Any], image: np.ndarray) -> tuple[DenseMaps, Poses]:
    """With the official settings.

    Without projection the official code decodes several test scales at the size of the largest one's maps,
    which for (0.5, 1, 2) is that of the input: here that is projection, too.
    """
    aggregate = Aggregator(
        COCO.flip_permutation,
        input_size=about["input_size"],
        test_scales=[float(test_scale) for test_scale in about["scale_factor"]],
        flip=about["flip"],
        project=about["project2image"] or len(about["scale_factor"]) > 1,
        alignment="official",
    )
    decode = Decoder(
        COCO,
        extract_peaks=PeakExtractor(plateaus="all"),
        group=OfficialGrouping(COCO.grouping_indices),
        refine=QuarterOffset(),
        recover=KeypointRecovery(),
    )
    maps = aggregate(network, [image], CPU)
    return maps, decode(maps)[0]


def check_heat(maps: DenseMaps, golden: Any, case: str) -> None:
    """Least, greatest, mean and standard deviation of every map."""
    heat = maps.heatmaps[0].flatten(1)
    found = torch.stack([heat.amin(1), heat.amax(1), heat.mean(1), heat.std(1, correction=0)], dim=1)
    np.testing.assert_allclose(found, golden[f"{case}/heat_stats"], rtol=0, atol=1e-5)


def check_poses(maps: DenseMaps, poses: Poses, golden: Any, case: str) -> None:
    """Every final coordinate, but one where two pixels are so nearly equal that single precision decides."""
    expected = golden[f"{case}/final"]
    assert len(poses) == len(expected)
    assert (poses.present == (expected[..., 2] > 0)).all()
    np.testing.assert_allclose(poses.scores, expected[..., 2], rtol=0, atol=1e-5)
    np.testing.assert_allclose(poses.score, golden[f"{case}/scores"], rtol=0, atol=1e-6)
    official = POINT_FROM_INDEX.apply(expected[..., :2])
    other = poses.present & (np.abs(poses.keypoints - official).max(axis=2, initial=0) > 1e-2)
    assert other.sum() <= 1
    for keypoint, *positions in zip(
        np.nonzero(other)[1], poses.keypoints[other], official[other], strict=True
    ):
        cells = np.floor(maps.map_from_image[0].apply(np.stack(positions))).astype(int)
        heat = maps.heatmaps[0, keypoint, cells[:, 1], cells[:, 0]]
        assert heat[0] == pytest.approx(heat[1].item(), abs=2e-6)


@pytest.mark.parametrize("image_id", IMAGES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_from_the_official_inputs(
    network, golden_dir: Path, golden_arrays, golden_json, monkeypatch, settings: str, image_id: str
) -> None:
    """From the warped images of OpenCV 4, which OpenCV 5 warps otherwise."""
    case, golden = f"{settings}/{image_id}", golden_arrays("f_pipeline_cv4.npz")
    stored = golden_dir.glob(f"f_input_{INPUTS_OF[settings]}_{image_id}_s*.png")
    warped = [np.ascontiguousarray(cv2.imread(str(file))[..., ::-1]) for file in stored]
    inputs = {image.shape[:2]: image for image in warped}
    monkeypatch.setattr(inputs_module, "warp_image", lambda image, frame, size: inputs[size])
    about = golden_json("f_pipeline_cv4.json")["cases"][case]

    maps, poses = run(network(case), about, np.zeros((*IMAGES[image_id], 3), np.uint8))

    check_heat(maps, golden, case)
    for found, name in ((maps.heatmaps[0], "heat_block_mean"), (maps.tags[0, ..., 0], "tag_block_mean_ch0")):
        np.testing.assert_allclose(F.avg_pool2d(found, 16), golden[f"{case}/{name}"], rtol=0, atol=1e-5)
    assert maps.tags.shape[-1] == (2 if about["flip"] else 1)
    check_poses(maps, poses, golden, case)


def test_every_pixel_of_the_maps(network, golden_dir: Path, golden_arrays, golden_json, monkeypatch) -> None:
    """Of the one case whose maps were stored whole, in half precision: beyond its rounding they agree."""
    case, golden = "in128_s1_p2i/000000197388", golden_arrays("f_pipeline_cv4.npz")
    warped = cv2.imread(str(golden_dir / "f_input_in256_ms_p2i_000000197388_s0.5.png"))[..., ::-1]
    monkeypatch.setattr(inputs_module, "warp_image", lambda image, frame, size: np.ascontiguousarray(warped))
    about = golden_json("f_pipeline_cv4.json")["cases"][case]
    maps, _ = run(network(case), about, np.zeros((392, 640, 3), np.uint8))
    for found, name in ((maps.heatmaps[0], "heat_f16"), (maps.tags[0], "tag_f16")):
        stored = golden[f"{case}/{name}"].astype(np.float32)
        np.testing.assert_allclose(found, stored, rtol=2**-11, atol=1e-5)


@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) < 5, reason="OpenCV 4 warps images otherwise")
@pytest.mark.parametrize("image_id", IMAGES)
@pytest.mark.parametrize("settings", [*SETTINGS, "in512_s1_p2i"])
def test_from_photographs(
    network, shared_data: Path, golden_arrays, golden_json, settings: str, image_id: str
) -> None:
    """From the JPEG files; the numbers are those of OpenCV 5."""
    case, golden = f"{settings}/{image_id}", golden_arrays("f_pipeline_cv5.npz")
    photograph = cv2.imread(str(shared_data / "coco" / "val2017" / f"{image_id}.jpg"))[..., ::-1]
    about = golden_json("f_pipeline_cv5.json")["cases"][case]
    maps, poses = run(network(case), about, np.ascontiguousarray(photograph))
    check_heat(maps, golden, case)
    check_poses(maps, poses, golden, case)
