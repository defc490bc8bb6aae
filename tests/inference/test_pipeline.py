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
