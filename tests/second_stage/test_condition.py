"""The first stage's pose as an input: its maps, and what a network learns from it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_network import small_network
from torch import Tensor, nn

from swahr.aggregate import Aggregator
from swahr.decode import Dark
from swahr.inference import export_network, open_exported
from swahr.runs.initial_weights import take_over
from swahr.second_stage import (
    ConditionedNetwork,
    LocalisationNetwork,
    PoseErrors,
    ResNetFeature,
    SecondStage,
    SpatialTransformerNetwork,
)
from swahr.second_stage.condition import condition_maps, mirror_condition
from swahr.skeleton import Skeleton
from swahr.structures import Maps, NetworkOutput, Poses

PUPPET = Skeleton.from_dict({"keypoints": ["left_hand", "right_hand", "head"]})
FLIP = PUPPET.flip_permutation
CPU, NAN = torch.device("cpu"), float("nan")
PERSON = np.array([(40.3, 62.9), (71.8, 60.4), (55.0, 20.7)])
BESIDE = PERSON + np.array([14.0, 8.0])


def poses_of(people: Any, scores: Any = 1.0) -> Poses:
    people = np.array(people, dtype=np.float64)
    present = ~np.isnan(people).any(axis=2)
    return Poses(people, np.where(present, scores, 0.0), np.ones(len(people)), present, PUPPET)


# The maps


def test_maps_by_hand() -> None:
    keypoints = torch.tensor([[(6.0, 2.0), (NAN, NAN), (12.0, 2.0)], [(10.0, 6.0), (-0.1, 2.0), (11.9, 7.9)]])
    maps = condition_maps(keypoints, (8, 12), deviation=0.5)
    assert maps.shape == (2, 3, 2, 3)
    one, two = np.exp(-1 / (2 * 0.5**2)), np.exp(-4 / (2 * 0.5**2))
    torch.testing.assert_close(
        maps[0, 0], torch.tensor([[one, 1.0, one], [one * one, one, one * one]], dtype=torch.float32)
    )
    torch.testing.assert_close(
        maps[1, 0], torch.tensor([[one * two, one * one, one], [two, one, 1.0]], dtype=torch.float32)
    )
    assert not maps[0, 1:].any()  # missing, and just outside
    assert not maps[1, 1].any()
    assert maps[1, 2].argmax() == 5


@pytest.mark.parametrize("size", [(96, 64), (128, 160)])
@pytest.mark.usefixtures("untyped")  # sizes are tensors while a network is exported
def test_the_exported_graph_sees_the_condition_in_crops_of_any_size(tmp_path: Path, size) -> None:
    pytest.importorskip("onnx", reason="needs onnx: pip install 'swahr[onnx]'")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'swahr[onnx]'")
    network = ConditionedNetwork(small_network(3, heads=("heatmaps",)), 3).eval()
    nn.init.normal_(network.paint.weight)
    crops = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    seen = torch.rand(2, 3, 2) * max(size)  # some of them outside
    seen[0, 0] = NAN
    aggregate, path = Aggregator(FLIP, input_size=64, flip=False, project=False), tmp_path / "graph.onnx"
    with torch.no_grad():
        own, other = (
            aggregate.forward_test_scale(lambda views, shown=shown: network(views, shown), crops)["heatmaps"]
            for shown in (seen, seen.flip(0))
        )
    assert (own - other).abs().max() > 0.03
    export_network(
        path, network=network, aggregate=aggregate, extract_peaks=None, description="{}", conditions=3
    )
    graph = open_exported(path, backend="onnxruntime")
    torch.testing.assert_close(graph(crops, seen)["heatmaps"], own, rtol=0, atol=1e-4)


def test_the_mirrored_condition_has_the_mirrored_maps_of_the_other_side() -> None:
    keypoints = torch.tensor([[(5.0, 3.0), (20.0, 9.0), (NAN, NAN)], [(1.5, 8.0), (NAN, NAN), (30.0, 12.0)]])
    maps = condition_maps(keypoints, (16, 32), deviation=1.0)
    mirrored = condition_maps(mirror_condition(keypoints, 32, FLIP), (16, 32), deviation=1.0)
    torch.testing.assert_close(mirrored, maps.flip(3)[:, list(FLIP)])


# The network


@pytest.mark.parametrize("inner", ["plain", "transformer"])
def test_at_first_the_outputs_are_those_of_the_plain_network(inner: str) -> None:
    plain: Any = small_network(3, heads=("heatmaps",))
    if inner == "transformer":
        plain = SpatialTransformerNetwork(plain, LocalisationNetwork(ResNetFeature([8, 8])))
    network = ConditionedNetwork(plain.eval(), 3)
    assert (network.strides, network.size_multiple) == (plain.strides, plain.size_multiple)
    crops = torch.randint(
        0, 256, (2, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    condition = torch.tensor([[(5.0, 3.0), (20.0, 9.0), (NAN, NAN)], [(1.5, 8.0), (NAN, NAN), (30.0, 12.0)]])
    for found, expected in zip(network(crops, condition), plain(crops), strict=True):
        assert torch.equal(found.heatmaps, expected.heatmaps)
    network(crops, condition)[-1].heatmaps.square().sum().backward()
    assert all(network.paint.weight.grad[keypoint].any() for keypoint in range(3))


def test_without_a_condition_nothing_is_predicted() -> None:
    network = ConditionedNetwork(small_network(3, heads=("heatmaps",)), 3)
    with pytest.raises(
        ValueError, match=r"expected the first stage's pose beside each crop, got crops alone"
    ):
        network(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_fine_tuning_takes_over_the_paint_of_keypoints() -> None:
    ours, theirs = (ConditionedNetwork(small_network(k, heads=("heatmaps",)), k) for k in (3, 4))
    nn.init.normal_(theirs.paint.weight)
    assert take_over(ours, theirs, [(0, 2), (2, 1)], (3, 4)) == []
    weight, source = ours.paint.weight, theirs.paint.weight
    assert torch.equal(weight[[0, 2]], source[[2, 1]])
    assert not weight[1].any()


def test_impossible_deviation() -> None:
    with pytest.raises(ValueError, match=r"model.deviation: expected a number above 0, got 0"):
        ConditionedNetwork(small_network(3, heads=("heatmaps",)), 3, deviation=0.0)


# The stage


class Seen:
    """Heat is the light near the condition; remembers what it was given."""

    def __init__(self, *, light: bool = True) -> None:
        self.light, self.crops, self.conditions = light, [], []

    def __call__(self, crops: Tensor, condition: Tensor) -> NetworkOutput:
        self.crops.append(crops)
        self.conditions.append(condition)
        size = (crops.shape[2], crops.shape[3])
        heat = condition_maps(condition, size, deviation=2.0)
        if self.light:
            heat = heat * nn.functional.avg_pool2d(crops.float() / 255, 4)
        return (Maps(4, {"heatmaps": heat}),)


def stage(**changes: Any) -> SecondStage:
    settings: dict[str, Any] = {"crop_size": (128, 96), "flip": False, "condition": PoseErrors()}
    return SecondStage(PUPPET, Dark(sigma=2.0), **settings | changes)


def picture(people: Any, size: tuple[int, int] = (120, 140)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    image = np.zeros((*size, 3))
    for person in people:
        for channel, (px, py) in enumerate(person):
            blob = 255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 2.0**2))
            image[..., channel] = np.maximum(image[..., channel], blob)
    return image.round().astype(np.uint8)


def test_of_two_people_in_the_crop_the_one_of_the_first_stage_is_found() -> None:
    people = np.stack([PERSON, BESIDE])
    (found,) = stage()(Seen(), [picture(people)], [poses_of(people + 1.5)], CPU)
    np.testing.assert_allclose(found.keypoints, people, atol=1.5)
    (same,) = stage()(Seen(), [picture(people)], [poses_of([BESIDE - 1.0])], CPU)
    np.testing.assert_allclose(same.keypoints, people[1:], atol=1.5)


@pytest.mark.parametrize("flip", [False, True])
def test_crop_condition_and_mirror_image_are_in_one_frame(flip: bool) -> None:
    poses = poses_of([PERSON, BESIDE])
    (found,) = stage(flip=flip)(Seen(light=False), [picture([])], [poses], CPU)
    np.testing.assert_allclose(found.keypoints, poses.keypoints, atol=0.3)
    np.testing.assert_array_equal(poses.keypoints[0], PERSON)


def test_keypoints_that_do_not_count_for_the_box_are_not_in_the_condition() -> None:
    missing = PERSON.copy()
    missing[0] = np.nan
    poses = poses_of([PERSON, missing, PERSON], scores=[[0.9, 0.1, 0.5], [0.5, 0.5, 0.5], [0.1, 0.05, 0.02]])
    network = Seen()
    stage()(network, [picture([])], [poses], CPU)
    is_seen = ~network.conditions[0].isnan().any(dim=2)
    assert is_seen.tolist() == [[True, False, True], [False, True, True], [True, True, True]]


def test_annotated_poses_have_errors_but_their_boxes_do_not() -> None:
    poses, image = [poses_of([PERSON, PERSON + 5])], [picture([PERSON])]
    network, errors = Seen(), PoseErrors(miss=0.0)
    for annotated in (None, [7], [7], [8]):
        stage(condition=errors)(network, image, poses, CPU, annotated=annotated)
    true, *seen = network.conditions
    assert all(torch.equal(crops, network.crops[0]) for crops in network.crops)
    expected = errors.of_image(poses[0].keypoints, 7, flip_permutation=FLIP) - poses[0].keypoints
    frame = stage()._frames(poses[0])[0]
    np.testing.assert_allclose((seen[0] - true)[0], expected[0] * frame.length_ratio, atol=1e-3)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_people_are_found_alike_in_any_batch() -> None:
    torch.manual_seed(1)
    network = ConditionedNetwork(small_network(3, heads=("heatmaps",)), 3).eval()
    nn.init.normal_(network.paint.weight, std=0.5)
    people = [np.stack([PERSON, BESIDE]), np.stack([PERSON + 25.0])]
    images, poses = [picture(own) for own in people], [poses_of(own) for own in people]
    found = [
        stage(batch_size=size, flip=True, threshold=-10.0)(network, images, poses, CPU) for size in (1, 2, 64)
    ]
    for other in found[1:]:
        for one, expected in zip(other, found[0], strict=True):
            np.testing.assert_allclose(one.keypoints, expected.keypoints, atol=1e-3)
            np.testing.assert_allclose(one.scores, expected.scores, atol=1e-5)


def test_nobody() -> None:
    network = Seen()
    (found,) = stage()(network, [picture([])], [Poses.nobody(PUPPET)], CPU, annotated=[3])
    assert len(found) == 0
    assert network.crops == []


# What is learned


class Scene(nn.Module):
    """A tiny network, which sees 25 x 25 pixels."""

    strides, size_multiple = (4,), 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, stride=2, padding=2),
            nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> NetworkOutput:
        return (Maps(4, {"heatmaps": self.layers(images)}),)


def two_people(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Crops (b 3 32 32) of two equal heads, where the one that is meant is (b 1 2), and a pose near it."""
    heads = 4 + 24 * torch.rand(count, 2, 2, generator=generator)
    heads[:, 1] = (heads[:, 0] + 16) % 32  # far enough apart
    axis = torch.arange(32) + 0.5
    x, y = (torch.exp(-((axis - heads[..., i, None]) ** 2) / (2 * 2.0**2)) for i in (0, 1))
    light = (y[..., :, None] * x[..., None, :]).amax(dim=1, keepdim=True)
    meant = heads[torch.arange(count), torch.randint(0, 2, (count,), generator=generator)][:, None]
    return light.expand(-1, 3, -1, -1), meant, meant + 2 * torch.randn(count, 1, 2, generator=generator)


def share_found(*, conditioned: bool, steps: int = 200) -> float:
    """The share of new crops in which the meant head is found within 4 pixels, after training."""
    torch.manual_seed(0)
    network, generator = ConditionedNetwork(Scene(), 1, deviation=1.0), torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)

    def maps(crops: Tensor, pose: Tensor) -> Tensor:
        return network(crops, pose if conditioned else torch.full_like(pose, NAN))[0].heatmaps

    for _ in range(steps):
        crops, meant, pose = two_people(32, generator)
        optimiser.zero_grad()
        (maps(crops, pose) - condition_maps(meant, (32, 32), deviation=1.0)).square().mean().backward()
        optimiser.step()
    crops, meant, pose = two_people(300, generator)
    with torch.no_grad():
        pixel = maps(crops, pose).flatten(1).argmax(dim=1)
    found = 4 * torch.stack([pixel % 8, pixel // 8], dim=1) + 2
    return float(((found - meant[:, 0]).norm(dim=1) < 4).float().mean())


@pytest.mark.usefixtures("untyped")
def test_which_of_two_equal_people_is_meant_is_learned_from_the_condition_only() -> None:
    """The pose alone is within 4 pixels for 1 - exp(-2) = 86 % of the heads."""
    assert share_found(conditioned=True) > 0.95
    assert 0.35 < share_found(conditioned=False) < 0.65
