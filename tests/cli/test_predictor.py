from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from swahr import Predictor
from swahr.synthetic import SyntheticSource

FIELDS = ("keypoints", "scores", "score", "present")


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return Predictor.from_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def images():
    sizes = [(64, 64), (64, 64), (72, 96)]
    return [SyntheticSource(size=1, seed=i, image_size=size)[0].image for i, size in enumerate(sizes)]


def test_one_image_from_a_file_or_an_array(predictor, images, tmp_path):
    path = tmp_path / "image.png"
    assert cv2.imwrite(str(path), cv2.cvtColor(images[2], cv2.COLOR_RGB2BGR))
    from_array = predictor(images[2])
    people = len(from_array)
    assert people > 0
    assert from_array.keypoints.shape == (people, 17, 2)
    assert from_array.scores.shape == from_array.present.shape == (people, 17)
    assert from_array.score.shape == (people,)
    assert (np.isfinite(from_array.keypoints) == from_array.present[..., None]).all()
    for given in (path, str(path)):
        found = predictor(given)
        for name in FIELDS:
            assert np.array_equal(getattr(found, name), getattr(from_array, name), equal_nan=True)


def test_a_batch_equals_one_by_one_in_the_order_given(predictor, images):
    order = [2, 0, 1]
    together = predictor.predict([images[i] for i in order])
    for i, found in zip(order, together, strict=True):
        alone = predictor(images[i])
        for name in FIELDS:
            np.testing.assert_allclose(getattr(found, name), getattr(alone, name), atol=1e-3)
    assert predictor.predict([]) == []


def test_shapes_without_people(checkpoint, images):
    nobody = Predictor.from_checkpoint(checkpoint, overrides=["grouping.peaks.threshold=2"])(images[0])
    assert len(nobody) == 0
    assert nobody.keypoints.shape == (0, 17, 2)
    assert nobody.scores.shape == nobody.present.shape == (0, 17)
    assert nobody.score.shape == (0,)


def test_overrides_change_settings_and_unknown_ones_are_refused(checkpoint, predictor, images):
    changes = ["aggregate.flip=false", "decode.refine.max_offset=0.1"]
    changed = Predictor.from_checkpoint(checkpoint, overrides=changes)
    before, after = predictor(images[0]), changed(images[0])
    assert not np.array_equal(after.keypoints, before.keypoints, equal_nan=True)
    wider = Predictor.from_checkpoint(checkpoint, overrides=["decode.refine.sigma=0.7"])  # not in the YAML
    assert wider.pipeline.decode.refine.sigma == 0.7
    with pytest.raises(ValueError, match=r"Aggregator has no flop; expected some of .*flip, "):
        Predictor.from_checkpoint(checkpoint, overrides=["aggregate.flop=false"])
    for setting in ("threshold", "_target_"):
        with pytest.raises(ValueError, match=r"cannot apply .*peeks"):
            Predictor.from_checkpoint(checkpoint, overrides=[f"grouping.peeks.{setting}=0.5"])
    with pytest.raises(ValueError, match=r"agregate"):
        Predictor.from_checkpoint(checkpoint, overrides=["agregate.flip=false"])


def test_bf16_stays_near_fp32(checkpoint, predictor, images):
    half, full = (
        Predictor.from_checkpoint(checkpoint, precision="bf16", device="cpu")(images[0]),
        predictor(images[0]),
    )
    assert half.keypoints.dtype == full.keypoints.dtype
    assert (np.isfinite(half.keypoints) == half.present[..., None]).all()
    assert len(half) == len(full) > 0
    both = half.present & full.present
    assert both.sum() >= 0.5 * full.present.sum()
    distance = np.linalg.norm(half.keypoints - full.keypoints, axis=-1)[both]
    assert np.median(distance) < 1.0


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.zeros((8, 8), np.uint8), r"image 0: expected an RGB image of shape \(H, W, 3\) and type uint8"),
        (np.zeros((8, 8, 4), np.uint8), "drop the alpha channel"),
        (np.zeros((8, 8, 3), np.float32), "255"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (torch.zeros(3, 8, 8), r"got Tensor; a tensor .*permute\(1, 2, 0\)"),
        (None, "got NoneType"),
        (b"\xff\xd8", "expected a path, .* got bytes"),
        ([[[0, 0, 300]]], r"got \(1, 1, 3\) of int64"),
        ([[[0.5, 0.5, 0.5]]], "of float64"),
        ([[[0, 0, 0]], []], "lists of equal lengths"),
        ([], "no pixels"),
        (["a.jpg", "b.jpg"], r"call predictor\.predict\(files\)"),
        (PillowImage.new("I;16", (8, 8)), "got mode I;16; pass the file's path"),
        (PillowImage.new("F", (8, 8)), "got mode F"),
        ("nothing.jpg", "^nothing.jpg: expected an image file"),
    ],
)
def test_other_things_than_images_are_refused_in_words(predictor, image, expected, untyped):
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=expected):
        predictor(image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_images_of_pillow_of_every_mode(predictor, images, mode):
    image = PillowImage.fromarray(images[0])
    image = image.convert("RGBA").convert("PA") if mode == "PA" else image.convert(mode)
    same(predictor(image), predictor(np.asarray(image.convert("RGB"))))


def test_nested_lists(predictor, images):
    same(predictor(images[0].tolist()), predictor(images[0]))


def same(first, second):
    for name in FIELDS:
        assert np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True)


def test_one_image_where_several_are_expected(predictor, images, untyped):
    for image in ("street.jpg", Path("street.jpg"), images[0], PillowImage.fromarray(images[0])):
        with pytest.raises(TypeError, match=r"got one; call predictor\(image\)"):
            predictor.predict(image)


def test_an_error_in_one_image_names_it(predictor, images, tmp_path):
    path = tmp_path / "long.png"
    assert cv2.imwrite(str(path), np.zeros((1, 20000, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"image 2: the image of size \(h, w\) = \(1, 20000\) needs an input"
    ):
        predictor.predict([*images[:2], cv2.imread(str(path))])
    found = predictor.stream([images[0], images[2], path])
    assert len([next(found), next(found)]) == 2
    with pytest.raises(
        ValueError, match=r"long\.png: the image .* aggregate\.max_input_pixels=16777216; crop"
    ):
        next(found)


def test_an_error_of_a_library_names_the_image(predictor, images):
    def decode(maps):
        raise KeyError("peaks")

    broken = replace(predictor, pipeline=replace(predictor.pipeline, decode=decode))
    with pytest.raises(RuntimeError, match="image 0: KeyError: 'peaks'"):
        broken(images[0])


@pytest.mark.parametrize("device", ["gpu", "0", "", "cuda:7", "mps", "meta", "CPU", 99, True])
def test_devices_that_are_not_there_are_refused_in_words(checkpoint, device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("needs a machine without it")
    with pytest.raises(ValueError, match=rf"device={device}: expected cpu.* or null .*; PyTorch \d"):
        Predictor.from_checkpoint(checkpoint, device=device)


def test_the_number_of_a_gpu_is_not_the_cpu(checkpoint):
    if torch.cuda.is_available():
        assert Predictor.from_checkpoint(checkpoint, device=0).device == torch.device("cuda:0")
    else:
        with pytest.raises(ValueError, match="device=0: expected cpu or null"):
            Predictor.from_checkpoint(checkpoint, device=0)
