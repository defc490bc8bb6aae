"""The parallel branch and its training; `tests/cli/test_parts.py` has whole runs."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swahr.decode import PixelCentre
from swahr.geometry import Affine
from swahr.loss import Criterion, HeatmapRegression
from swahr.model import HeatmapHead, HigherHRNet
from swahr.model.higherhrnet import IMAGENET_MEAN, IMAGENET_STD
from swahr.procedures import SstnModule
from swahr.procedures.sstn import centred
from swahr.second_stage import LocalisationNetwork, ResNetFeature, SecondStage, SpatialTransformerNetwork
from swahr.skeleton import Skeleton
from swahr.structures import Batch, Maps, NetworkOutput
from swahr.targets import TargetEncoder

PUPPET = Skeleton.from_dict({"keypoints": ["left_hand", "right_hand", "head"]})
SIDE = 64
CENTRE = torch.tensor([SIDE / 2, SIDE / 2])


class LightNetwork(nn.Module):
    """Heat of a keypoint: light of its channel, at stride 4."""

    strides, size_multiple = (4,), 4

    def forward(self, images: Tensor) -> NetworkOutput:
        light = images * 0.224 + 0.449  # about 0 to 1
        return (Maps(4, {"heatmaps": nn.functional.avg_pool2d(light, 4)}),)


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images / 255 - mean) / std


def person_network() -> HigherHRNet:
    heads = {"heatmaps": partial(HeatmapHead, num_keypoints=3)}
    return HigherHRNet(ResNetFeature([8, 8]), heads)


def module(person: nn.Module, **options: Any) -> SstnModule:
    torch.manual_seed(0)
    network = SpatialTransformerNetwork(person, LocalisationNetwork(ResNetFeature([8, 8])))
    term = HeatmapRegression(weight=1.0, adaptation=None, pixel_weight=None)
    parts: dict[str, Any] = {
        "network": network, "encode_targets": TargetEncoder((4,), sigma=2.0, centre="unbiased"),
        "criterion": Criterion({"heatmap": term}), "pipeline": None, "evaluate": None, "optimiser": None,
        "batch_size": 8, "skeleton": PUPPET,
        "second_stage": SecondStage(PUPPET, PixelCentre(), crop_size=SIDE, size_multiple=4),
    }  # fmt: skip
    return SstnModule(**parts | options)


def lights(offsets: Tensor) -> Batch:
    """Three spots of light, each in its channel, about the centre of the crop plus an offset."""
    spots = torch.tensor([(-8.0, 6.0), (8.0, 6.0), (0.0, -6.0)])
    keypoints = CENTRE + spots + offsets[:, None]
    pixels = torch.arange(SIDE) + 0.5
    x, y = keypoints[..., 0, None, None], keypoints[..., 1, None, None]
    heat = torch.exp(-((pixels - x) ** 2 + (pixels[:, None] - y) ** 2) / (2 * 8.0**2))
    count = len(offsets)
    return Batch(
        images=(255 * heat).to(torch.uint8), keypoints=keypoints[:, None],
        visibility=torch.full((count, 1, 3), 2), valid=torch.ones(count, SIDE, SIDE, dtype=torch.bool),
        image_ids=tuple(range(count)), input_from_image=(Affine.identity(),) * count,
    )  # fmt: skip


def branch(trained: SstnModule, batch: Batch) -> dict[str, Tensor]:
    return trained.parallel_terms(batch, trained.network.transform(batch.images)[1])


def off_centre(network: SpatialTransformerNetwork, batch: Batch) -> Tensor:
    """How far the person's centre is from that of the transformed crop, in pixels."""
    transformed, _ = network.transform(batch.images)
    heat = network.network(transformed)[0].heatmaps.clamp(min=0.2).sub(0.2).sum(dim=1)
    pixels = 4 * (torch.arange(SIDE // 4) + 0.5)
    total = heat.sum(dim=(1, 2))
    x, y = (heat * pixels).sum(dim=(1, 2)) / total, (heat * pixels[:, None]).sum(dim=(1, 2)) / total
    return (torch.stack([x, y], dim=1) - CENTRE).norm(dim=1)


@pytest.mark.usefixtures("untyped")
def test_crops_shifted_by_known_offsets_are_centred_after_some_steps() -> None:
    trained = module(LightNetwork(), parallel_weight=1.0)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(trained.network.localise.parameters(), lr=1e-2)
    for _ in range(60):
        batch = lights(24 * torch.rand(8, 2, generator=generator) - 12)
        loss = sum(values.mean() for values in branch(trained, batch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    test = lights(24 * torch.rand(64, 2, generator=generator) - 12)
    with torch.no_grad():
        plain = off_centre(module(LightNetwork()).network, test)
        found = off_centre(trained.network.eval(), test)
    assert plain.mean() > 8
    assert found.mean() < 2.5


@pytest.mark.usefixtures("untyped")
def test_only_the_localisation_network_learns_from_the_branch_and_weights_and_statistics_stay() -> None:
    trained = module(person_network()).train()
    nn.init.normal_(trained.network.network.heads[0]["heatmaps"].conv.weight)
    before = {name: value.clone() for name, value in trained.network.network.state_dict().items()}
    terms = branch(trained, lights(torch.tensor([(9.0, -4.0), (-6.0, 3.0)])))
    torch.stack(list(terms.values())).sum().backward()
    assert all(parameter.grad is None for parameter in trained.network.network.parameters())
    assert trained.network.localise.linear.weight.grad.abs().max() > 0
    after = trained.network.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any("parallel" in name for name in trained.state_dict())


@pytest.mark.usefixtures("untyped")
def test_the_branch_is_the_person_network_with_the_label_in_the_centre() -> None:
    """While theta is the identity: the branch's loss is the plain loss of the same pose, centred."""
    trained = module(LightNetwork(), parallel_weight=3.0)
    batch = lights(torch.tensor([(9.0, -4.0), (0.0, 0.0)]))
    found = branch(trained, batch)["heatmap_4"]
    middle = lights(torch.zeros(2, 2))
    targets = trained.encode_targets(replace(batch, keypoints=middle.keypoints))
    expected = (
        3.0 * trained.criterion(trained.network.network(normalised(batch.images)), targets)["heatmap_4"]
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert found[0] > 1.5 * found[1]


@pytest.mark.usefixtures("untyped")
def test_a_step_runs_the_localisation_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = module(person_network()).train()
    logged: dict[str, Tensor] = {}
    monkeypatch.setattr(trained, "log", lambda *_, **__: None)
    monkeypatch.setattr(trained, "log_dict", lambda values, **_: logged.update(values))
    watched: list[Any] = []
    trained.criterion.register_forward_hook(lambda *call: watched.append(call[1][0]))
    batch = lights(torch.tensor([(9.0, -4.0), (-6.0, 3.0)]))
    loss = trained.training_step(batch, 0)
    counts = [value for name, value in trained.network.localise.named_buffers() if "num_batches" in name]
    assert counts
    assert all(count == 1 for count in counts)
    torch.testing.assert_close(loss.detach(), torch.stack(list(logged.values())).sum())
    (output,) = watched  # callbacks measure the network's own maps, not the branch's
    torch.testing.assert_close(output[0].heatmaps, trained.network(batch.images)[0].heatmaps)


def test_poses_are_centred_by_the_box_of_labelled_keypoints() -> None:
    keypoints = torch.tensor([[(10.0, 20), (30, 60), (999, 999)], [(0, 0), (0, 0), (0, 0)]])[None]
    visibility = torch.tensor([[[2, 1, 0], [0, 0, 0]]])
    found = centred(keypoints, visibility, (100, 80))
    torch.testing.assert_close(found[0, 0, :2], torch.tensor([(30.0, 30), (50, 70)]))  # centre (40, 50)
    torch.testing.assert_close(found[0, 1], keypoints[0, 1])
    assert centred(keypoints[:, :0], visibility[:, :0], (100, 80)).shape == (1, 0, 3, 2)


@pytest.mark.usefixtures("untyped")
def test_settings_that_do_not_fit() -> None:
    with pytest.raises(
        ValueError, match="with a spatial transformer, got HigherHRNet; choose model=sstn_tiny"
    ):
        module(person_network(), network=person_network())
    for changes in ({"parallel_weight": -1.0}, {"alignment": "official"}):
        with pytest.raises(ValueError, match=r"expected parallel_weight >= 0 and targets.alignment=centre"):
            module(LightNetwork(), **changes)
