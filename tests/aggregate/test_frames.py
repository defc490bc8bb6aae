"""Sizes and frames of the network's input at test time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swahr.aggregate.inputs import frame_sizes, input_frame, output_frame, resized_frame
from swahr.geometry import INDEX_FROM_POINT, POINT_FROM_INDEX, Affine, map_from_input


def test_sizes_by_hand():
    assert frame_sizes((480, 640), 512, (1.0,), 64, 32) == {1.0: (512, 704)}
    assert frame_sizes((640, 480), 512, (1.0,), 64, 32) == {1.0: (704, 512)}
    assert frame_sizes((480, 640), 512, (0.5, 1.0, 2.0), 64, 32) == {
        0.5: (256, 384),
        1.0: (512, 768),
        2.0: (1024, 1536),
    }


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
    st.integers(64, 800),
    st.lists(st.floats(0.25, 3.0), min_size=1, max_size=3),
    st.sampled_from([(32, 32), (64, 32), (128, 32), (64, 64), (32, 16)]),
)
def test_every_size_suits_the_network(image_size, input_size, test_scales, multiples):
    round_to, size_multiple = multiples
    for h, w in frame_sizes(image_size, input_size, test_scales, round_to, size_multiple).values():
        assert h % size_multiple == w % size_multiple == 0
        assert min(h, w) >= size_multiple
        assert (h <= w) == (image_size[0] <= image_size[1]) or h == w


def test_golden_sizes_and_matrices(golden_json):
    """All 270 of the official code; sizes but those that its own network refuses."""
    rows = golden_json("e_sizes.json")
    assert len(rows) == 270
    compared = 0
    for row in rows:
        image_size, size = (row["h"], row["w"]), tuple(row["size"][::-1])
        frame = input_frame(image_size, size, "official")
        in_indices = (INDEX_FROM_POINT @ frame @ POINT_FROM_INDEX).matrix
        np.testing.assert_allclose(in_indices, row["trans"], rtol=0, atol=4e-5)
        if any(side % 32 for side in size):
            continue
        scale = float(row["scale"])
        assert (
            frame_sizes(image_size, row["input_size"], (float(row["min_scale"]), scale), 64, 32)[scale]
            == size
        )
        compared += 1
    assert compared == 222


@pytest.mark.parametrize(
    ("case", "image_size"), [(0, (480, 640)), (1, (640, 427)), (2, (1080, 1920)), (3, (500, 333))]
)
def test_golden_final_coordinates(golden_arrays, case: int, image_size: tuple[int, int]):
    """From projected maps back to the image, as the official code reads them."""
    golden = golden_arrays("e_geometry.npz")
    width, height = golden[f"preds{case}/heatmap_wh"].tolist()
    map_from_image = output_frame(1, "official") @ input_frame(image_size, (height, width), "official")
    points = map_from_image.inverse().apply(golden[f"preds{case}/grouped"][..., :2])
    final = golden[f"preds{case}/final"][..., :2]
    np.testing.assert_allclose(INDEX_FROM_POINT.apply(points), final, rtol=0, atol=2e-4)


@pytest.mark.parametrize("image_size", [(480, 640), (427, 640), (640, 425), (333, 333)])
def test_centred_frame_shows_the_whole_image(image_size):
    (size,) = frame_sizes(image_size, 256, (1.0,), 64, 32).values()
    corners = input_frame(image_size, size, "centre").apply(np.array([[0.0, 0.0], image_size[::-1]]))
    assert (corners[0] >= -1e-9).all()
    assert (corners[1] <= np.array(size[::-1]) + 1e-9).all()
    np.testing.assert_allclose(corners.sum(axis=0), size[::-1])


@pytest.mark.parametrize("alignment", ["centre", "official"])
def test_frames_of_whole_ratios_are_the_input_frames_of_their_sizes(alignment):
    sizes = frame_sizes((425, 640), 512, (0.5, 1.0, 2.0), 64, 32)
    base = input_frame((425, 640), sizes[1.0], alignment)
    for size in sizes.values():
        through = resized_frame(sizes[1.0], size, alignment) @ base
        np.testing.assert_allclose(through.matrix, input_frame((425, 640), size, alignment).matrix, atol=1e-9)


def test_convention_official_maps_are_read_half_a_map_pixel_beyond_their_training_alignment():
    """Truncation puts a keypoint on average half a pixel short; reading undoes it, so no bias remains."""
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 200, (20_000, 2))
    for stride in (2, 4):
        pixels = np.floor(INDEX_FROM_POINT.apply(points) / stride)
        read = output_frame(stride, "official").inverse().apply(pixels + 0.5)
        assert np.abs((read - points).mean(axis=0)).max() < 0.02 * stride
        trained = map_from_input(stride, "official")
        half = Affine.translation(-0.5, -0.5) @ trained
        np.testing.assert_allclose(output_frame(stride, "official").matrix, half.matrix, atol=1e-12)


def test_convention_centred_maps_are_a_pure_scaling():
    for stride in (1, 2, 4):
        np.testing.assert_array_equal(
            output_frame(stride, "centre").matrix, map_from_input(stride, "centre").matrix
        )
