"""Merging strides, test scales and mirror images."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swahr.aggregate import Aggregator
from swahr.structures import Maps, NetworkOutput

CPU = torch.device("cpu")


class Eye:
    """A "network" that sees red (left keypoint) and green (right keypoint), and swaps them in the mirror.

    Which is which depends on the blue channel's gradient, as left and right do on the rest of a person.
    """

    def __init__(self, dtype: torch.dtype = torch.float32, scale_maps: bool = False) -> None:
        self.dtype = dtype
        self.scale_maps = scale_maps
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
        fields = {"heatmaps": heat}
        fields |= {"tags": 3 * heat} if stride == 4 else {}
        fields |= {"scale_maps": heat + 1} if self.scale_maps else {}
        return Maps(stride, fields)


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
def test_convention_a_lit_spot_is_found_at_its_position_in_the_image(flip, project, test_scales):
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
    warped = aggregate(flip=False).prepare([scene()]).reference
    coarse, fine = eye(warped)
    up = F.interpolate(coarse.heatmaps, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(maps.heatmaps, (up + fine.heatmaps) / 2)


def test_tags_come_from_test_scale_one_and_heatmaps_from_all():
    single = aggregate(test_scales=(1.0,), round_to=32)(Eye(), [scene(64, 128)], CPU)
    several = aggregate(test_scales=(1.0, 2.0), round_to=32)(Eye(), [scene(64, 128)], CPU)
    assert torch.equal(single.tags, several.tags)
    assert single.heatmaps.shape == several.heatmaps.shape
    assert not torch.equal(single.heatmaps, several.heatmaps)


def test_inputs_have_the_sizes_of_their_test_scales():
    eye = Eye()
    aggregate(test_scales=(0.5, 1.0, 2.0), flip=False)(eye, [scene(), scene()], CPU)
    assert sorted(eye.seen) == [(2, 3, 64, 128), (2, 3, 128, 256), (2, 3, 256, 512)]


@pytest.mark.parametrize("project", [False, True])
def test_scale_maps_pass_when_there_are_any(project):
    assert aggregate(project=project)(Eye(), [scene()], CPU).scale_maps is None
    maps = aggregate(project=project)(Eye(scale_maps=True), [scene()], CPU)
    assert maps.scale_maps is not None
    assert maps.scale_maps.shape == maps.heatmaps.shape
    peak = maps.heatmaps[0, 0].argmax()
    assert maps.scale_maps[0, 0].flatten()[peak] == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize(("project", "size"), [(False, (64, 128)), (True, (128, 256))])
def test_projection_brings_maps_to_the_size_of_the_input(project, size):
    assert tuple(aggregate(project=project)(Eye(), [scene()], CPU).heatmaps.shape[2:]) == size


def test_bfloat16_networks_give_float32_maps():
    maps = aggregate()(Eye(torch.bfloat16, scale_maps=True), [scene()], CPU)
    assert maps.heatmaps.dtype == maps.tags.dtype == maps.scale_maps.dtype == torch.float32


def test_a_batch_gives_what_its_images_give_alone():
    images = [scene(), scene(red=(50, 30), green=(80, 50))]
    together = aggregate()(Eye(), images, CPU)
    assert len(together.map_from_image) == 2
    for i, image in enumerate(images):
        assert torch.equal(aggregate()(Eye(), [image], CPU).heatmaps[0], together.heatmaps[i])


def test_images_of_nearly_one_shape_share_a_batch_and_keep_their_own_frames():
    images = [scene(60, 100), scene(61, 100)]
    together = aggregate()(Eye(), images, CPU)
    for i, image in enumerate(images):
        alone = aggregate()(Eye(), [image], CPU)
        assert torch.equal(alone.heatmaps[0], together.heatmaps[i])
        np.testing.assert_array_equal(alone.map_from_image[0].matrix, together.map_from_image[i].matrix)
    assert not np.array_equal(together.map_from_image[0].matrix, together.map_from_image[1].matrix)


def test_images_of_different_sizes():
    with pytest.raises(ValueError, match="images of one size"):
        aggregate()(Eye(), [scene(60, 100), scene(60, 200)], CPU)
    with pytest.raises(ValueError, match="images of one size"):
        aggregate()(Eye(), [], CPU)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test_scales": (0.5, 2.0)}, "1.0 among test_scales"),
        ({"test_scales": ()}, "positive test_scales"),
        ({"input_size": 0}, "positive input_size"),
        ({"round_to": 48}, "multiple of the network's size_multiple 32"),
        ({"round_to": 32, "size_multiple": 64}, "multiple of the network's size_multiple 64"),
    ],
)
def test_bad_settings_of_the_aggregator(values, message):
    with pytest.raises(ValueError, match=message):
        aggregate(**values)


def test_a_network_without_tags_gives_maps_without_tags():
    def tagless(images: Tensor) -> NetworkOutput:
        _, fine = Eye()(images)
        return (fine,)

    maps = aggregate()(tagless, [scene()], CPU)
    assert maps.fields.keys() == {"heatmaps"}
    assert maps.tags is None


@pytest.mark.parametrize("project", [False, True])
def test_the_exported_part_returns_the_maps_of_one_test_scale(project):
    aggregator = aggregate(project=project)
    maps = aggregator(Eye(scale_maps=True), [scene()], CPU)
    with torch.inference_mode():
        fields = aggregator.forward_test_scale(Eye(scale_maps=True), aggregator.prepare([scene()]).reference)
    assert fields.keys() == maps.fields.keys() == {"heatmaps", "tags", "scale_maps"}
    assert all(torch.equal(field, maps.fields[name]) for name, field in fields.items())


def test_the_maps_of_one_image_are_named_as_those_of_all():
    maps = aggregate()(Eye(scale_maps=True), [scene(), scene(red=(50, 30))], CPU)
    own = maps.of_image(1)
    assert own.fields.keys() == maps.fields.keys()
    assert torch.equal(own.tags, maps.tags[1])
    assert own.log_weight_maps is None


def test_the_size_of_inputs_is_bounded():
    aggregate = Aggregator((1, 0), input_size=512)
    assert aggregate.input_sizes((20, 600)) == {1.0: (512, 15360)}
    expected = r"\(20, 4000\) needs an input of \(512, 102400\), more than .*=16777216; crop .* or raise the"
    with pytest.raises(ValueError, match=expected):
        aggregate.input_sizes((20, 4000))
    larger = Aggregator((1, 0), input_size=512, max_input_pixels=2**26)
    assert larger.input_sizes((4000, 20)) == {1.0: (102400, 512)}
    scaled = Aggregator((1, 0), input_size=512, test_scales=(0.5, 1.0, 2.0))
    with pytest.raises(ValueError, match="lower aggregate"):
        scaled.input_sizes((20, 600))
