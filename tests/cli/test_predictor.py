import cv2
import numpy as np
import pytest

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


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8)])
def test_arrays_of_another_kind_are_refused(predictor, image, untyped):
    with pytest.raises(ValueError, match=r"expected an RGB image of shape \(H, W, 3\) and type uint8"):
        predictor(image)


def test_a_device_that_is_not_there_is_refused(checkpoint, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda' was requested"):
        Predictor.from_checkpoint(checkpoint, device="cuda")
