"""Images in batches of like shape, one after the other, in the order given."""

import numpy as np
import pytest
import torch

from swahr.aggregate import Aggregator
from swahr.pipeline import PosePipeline
from swahr.skeleton import COCO
from swahr.structures import DenseMaps


class Recorder:
    """An aggregator that notes its batches; what it "decodes" is each image's first pixel."""

    def __init__(self):
        aggregate = Aggregator(COCO.flip_permutation, input_size=64)
        self.input_sizes, self.prepare = aggregate.input_sizes, aggregate.prepare
        self.batches = []

    def merge(self, network, inputs):
        self.batches.append(tuple(inputs.reference.shape))
        values = inputs.reference.float().amax(dim=(1, 2, 3))
        return DenseMaps({"heatmaps": values.view(-1, 1, 1, 1)}, inputs.input_from_image)

    @staticmethod
    def decode(maps):
        return maps.heatmaps.flatten().round().int().tolist()


def image(value: int, h: int, w: int) -> np.ndarray:
    return np.full((h, w, 3), value, np.uint8)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_order_and_batches(device, untyped):
    recorder = Recorder()
    run = PosePipeline(aggregate=recorder, decode=recorder.decode, batch_size=2)
    shapes = [(60, 100), (100, 60), (61, 100), (100, 61), (60, 99), (64, 64)]
    images = [image(i, *shape) for i, shape in enumerate(shapes)]
    assert run(None, images, torch.device(device)) == list(range(6))
    assert [batch[0] for batch in recorder.batches] == [2, 2, 1, 1]  # nearly one shape is one batch
    assert run(None, [], torch.device(device)) == []


def test_what_is_found_does_not_wait_for_an_earlier_image_of_another_shape(untyped):
    recorder = Recorder()
    run = PosePipeline(aggregate=recorder, decode=recorder.decode, batch_size=2)
    images = [image(0, 60, 100), *(image(i, 100, 60) for i in range(1, 6)), ValueError("cannot read")]
    found = list(run.as_found(None, images, torch.device("cpu")))
    assert [i for i, _ in found[:4]] == [1, 2, 3, 4]
    assert sorted(i for i, _ in found) == list(range(7))
    assert {i: outcome for i, outcome in found if i < 6} == {i: i for i in range(6)}


def test_few_images_wait_for_others_of_their_shape(untyped):
    recorder, drawn = Recorder(), []

    def images():
        for i in range(200):  # one that is alone with its shape, then many that are not
            drawn.append(i)
            yield image(i, 64, 64) if i == 0 else image(i, 64, 128)

    run = PosePipeline(aggregate=recorder, decode=recorder.decode, batch_size=4)
    stream = run.stream(None, images(), torch.device("cpu"))
    assert next(stream) == 0
    assert len(drawn) <= 8 * 4 + 4
    assert list(stream) == list(range(1, 200))


def test_an_error_among_the_images_reaches_the_caller(untyped):
    recorder = Recorder()
    run = PosePipeline(aggregate=recorder, decode=recorder.decode)

    def images():
        yield image(0, 64, 64)
        raise OSError("cannot read")

    with pytest.raises(OSError, match="cannot read"):
        run(None, images(), torch.device("cpu"))


POISON = 99


def fails_on_poison(maps):
    if (maps.heatmaps == POISON).any():
        raise KeyError("poison")
    return Recorder.decode(maps)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_an_error_costs_one_image_of_its_batch(device, batch_size, untyped):
    recorder = Recorder()
    prepare = recorder.prepare

    def unprepared(images):
        if any(image.max() == 50 for image in images):
            raise OSError("cannot warp")
        return prepare(images)

    recorder.prepare = unprepared
    run = PosePipeline(aggregate=recorder, decode=fails_on_poison, batch_size=batch_size)
    values = [0, POISON, 2, 3, 50, 5, POISON, 7]
    images = [*(image(value, 64, 64) for value in values), ValueError("cannot read"), image(9, 1, 10**6)]
    outcomes = list(run.outcomes(None, images, torch.device(device)))
    assert [x if isinstance(x, int) else type(x) for x in outcomes] == [
        0, KeyError, 2, 3, OSError, 5, KeyError, 7, ValueError, ValueError,
    ]  # fmt: skip
    with pytest.raises(KeyError, match="poison"):
        run(None, images, torch.device(device))


def test_it_gives_up_if_every_image_fails(untyped):
    run = PosePipeline(aggregate=Recorder(), decode=fails_on_poison, batch_size=4)
    read = []

    def images():
        for i in range(200):
            read.append(i)
            yield image(POISON, 64, 64)

    with pytest.raises(KeyError, match="poison"):
        list(run.outcomes(None, images(), torch.device("cpu")))
    assert len(read) < 40


def test_unreadable_images_are_no_reason_to_give_up(untyped):
    run = PosePipeline(aggregate=Recorder(), decode=fails_on_poison, batch_size=4)
    outcomes = list(run.outcomes(None, [ValueError("no")] * 40 + [image(3, 64, 64)], torch.device("cpu")))
    assert outcomes[-1] == 3
    assert len(outcomes) == 41


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["heatmaps", "tags"])
def test_maps_that_are_not_finite_are_an_error_and_not_nobody(bad, name, untyped):
    recorder = Recorder()
    merge = recorder.merge

    def merged(network, inputs):
        maps = merge(network, inputs)
        fields = {"tags": torch.zeros(1), **maps.fields}
        return DenseMaps(fields | {name: torch.full_like(fields[name], bad)}, maps.map_from_image)

    recorder.merge = merged
    run = PosePipeline(aggregate=recorder, decode=recorder.decode)
    (error,) = run.outcomes(None, [image(1, 64, 64)], torch.device("cpu"))
    assert f"expected finite {name} from the network, got NaN or infinity" in str(error)
