"""Fine-tuning: weights for other keypoints, taken over by name or started anew."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import small_network
from torch import Tensor, nn

from swahr.checkpoint import describe_run, save_checkpoint
from swahr.model import HeatmapHead, HigherHRNet
from swahr.model.published import LAYOUTS, published_shapes
from swahr.runs.initial_weights import start_from
from swahr.skeleton import COCO, CROWDPOSE, Skeleton

HEADS = ("heatmaps", "tags", "scale_maps", "log_weight_maps")
POSES = ("heatmaps", "tags")
COMMON = [name for name in CROWDPOSE.keypoints if name in COCO.keypoints]  # all but head and neck
MMPOSE, OFFICIAL, IMAGENET, _ = LAYOUTS


def network(skeleton: Skeleton, heads: tuple[str, ...] = HEADS) -> HigherHRNet:
    return small_network(skeleton.num_keypoints, heads=heads)


def randomised(module: nn.Module) -> nn.Module:
    for number, value in enumerate(module.state_dict().values()):
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=torch.Generator().manual_seed(number)))
    return module


@pytest.fixture
def coco_weights(tmp_path: Path) -> Path:
    """A checkpoint of random weights."""
    path = tmp_path / "coco.safetensors"
    groups = {
        name: {} for name in ("model", "data", "targets", "aggregate", "grouping", "decode", "evaluation")
    }
    save_checkpoint(path, randomised(network(COCO)).state_dict(), describe_run(groups, {}, COCO, {}))
    return path


def predictions(module: nn.Module, images: Tensor) -> list[dict[str, Tensor]]:
    with torch.no_grad():
        return [maps.fields for maps in module.eval()(images)]


def test_maps_of_common_keypoints_are_the_same_and_others_have_no_influence(coco_weights: Path) -> None:
    """Seen from outside: only the deconvolution's inputs from keypoints of one side change finer maps."""
    source, target = randomised(network(COCO)), network(CROWDPOSE)
    start_from(target, coco_weights, CROWDPOSE, keypoints="by_name", build=network)
    images = torch.randint(0, 255, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
    ours, theirs = predictions(target, images)[0], predictions(source, images)[0]
    assert len(COMMON) == 12
    for name in HEADS:
        for keypoint in COMMON:
            i, j = CROWDPOSE.keypoints.index(keypoint), COCO.keypoints.index(keypoint)
            assert torch.allclose(ours[name][:, i], theirs[name][:, j], atol=1e-6), (name, keypoint)
        assert not torch.allclose(ours[name][:, 12], theirs[name][:, 0], atol=1e-3)
    # Without the rows of keypoints that only one side has, the finer maps are equal, too.
    width = 8
    with torch.no_grad():
        for module, skeleton in ((source, COCO), (target, CROWDPOSE)):
            inputs = module.get_parameter("deconvolutions.0.upsample.0.weight")
            for i, keypoint in enumerate(skeleton.keypoints):
                if keypoint not in COMMON:
                    inputs[[width + i, width + skeleton.num_keypoints + i]] = 0
    fine, expected = predictions(target, images)[1], predictions(source, images)[1]
    for keypoint in COMMON:
        i, j = CROWDPOSE.keypoints.index(keypoint), COCO.keypoints.index(keypoint)
        torch.testing.assert_close(fine["heatmaps"][:, i], expected["heatmaps"][:, j], rtol=1e-4, atol=1e-4)


def test_new_keeps_the_network_and_starts_all_keypoints_anew(coco_weights: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    before, target, source = (network(CROWDPOSE), network(CROWDPOSE), randomised(network(COCO)))
    start_from(target, coco_weights, CROWDPOSE, keypoints="new", build=network)
    ours, fresh, theirs = target.state_dict(), before.state_dict(), source.state_dict()
    for name, value in ours.items():
        if name.startswith("heads.") and value.ndim:
            assert torch.equal(value, fresh[name]), name
        elif name == "deconvolutions.0.upsample.0.weight":
            assert torch.equal(value[:8], theirs[name][:8])
            assert torch.equal(value[8:], fresh[name][8:])
        else:
            assert torch.equal(value, theirs[name]), name
    assert "keypoints taken over: none; started anew: left_shoulder, " in caplog.text


def test_the_log_lists_what_was_taken_over(coco_weights: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    start_from(network(CROWDPOSE), coco_weights, CROWDPOSE, keypoints="by_name", build=network)
    assert f"weights_keypoints=by_name, from 'coco' in {coco_weights}" in caplog.text
    assert f"keypoints taken over: {', '.join(COMMON)}; started anew: head, neck" in caplog.text


def test_the_same_keypoints_in_another_order(coco_weights: Path) -> None:
    turned = Skeleton.from_dict({"name": "turned", "keypoints": COCO.keypoints[::-1]})
    target, source = network(turned), randomised(network(COCO))
    start_from(target, coco_weights, turned, keypoints="by_name", build=network)
    ours, theirs = target.state_dict(), source.state_dict()
    for name in HEADS:
        for part in ("weight", "bias"):
            key = f"heads.0.{name}.conv.{part}"
            assert torch.equal(ours[key], theirs[key].flip(0))
    key = "deconvolutions.0.upsample.0.weight"
    assert torch.equal(ours[key][8:25], theirs[key][8:25].flip(0))
    assert torch.equal(ours[key][25:], theirs[key][25:].flip(0))
    with pytest.raises(ValueError, match="weights_keypoints=by_name"):
        start_from(target, coco_weights, turned, build=network)


def test_keypoints_without_a_common_name_and_unknown_settings(coco_weights: Path, untyped: None) -> None:
    animal = Skeleton.from_dict({"keypoints": ["tail", "snout"]})
    with pytest.raises(ValueError, match=r"expected some keypoints.*'snout'.*weights_keypoints=new"):
        start_from(network(animal), coco_weights, animal, keypoints="by_name", build=network)
    start_from(network(animal), coco_weights, animal, keypoints="new", build=network)
    with pytest.raises(ValueError, match="weights_keypoints: expected one of 'same', 'by_name', 'new'"):
        start_from(network(animal), coco_weights, animal, keypoints="some", build=network)  # type: ignore[arg-type] # wrong on purpose


def test_everything_else_must_match(coco_weights: Path) -> None:
    narrow = partial(small_network, heads=HEADS, channels=(4, 8, 8, 8))
    with pytest.raises(ValueError, match=r"coco\.safetensors: the checkpoint is of another architecture"):
        start_from(
            narrow(14), coco_weights, CROWDPOSE, keypoints="by_name", build=lambda s: narrow(s.num_keypoints)
        )


class _Pairwise(HeatmapHead):
    """A head with a tensor of keypoints times keypoints."""

    kind = HeatmapHead.kind

    def __init__(self, inputs: int, num_keypoints: int) -> None:
        super().__init__(inputs, num_keypoints)
        self.mix = nn.Conv2d(num_keypoints, num_keypoints, 1)


def test_tensors_of_other_shapes_start_anew_and_are_listed(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO)

    def build(skeleton: Skeleton) -> HigherHRNet:
        built = network(skeleton, POSES)
        return HigherHRNet(
            built.backbone, {"heatmaps": partial(_Pairwise, num_keypoints=skeleton.num_keypoints)}
        )

    path = tmp_path / "pairs.safetensors"
    groups = {
        name: {} for name in ("model", "data", "targets", "aggregate", "grouping", "decode", "evaluation")
    }
    save_checkpoint(path, randomised(build(COCO)).state_dict(), describe_run(groups, {}, COCO, {}))
    start_from(build(CROWDPOSE), path, CROWDPOSE, keypoints="by_name", build=build)
    assert "started anew: head, neck, heads.0.heatmaps.mix.weight" in caplog.text


def test_networks_that_do_not_know_their_keypoints(coco_weights: Path) -> None:
    class Unknowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.load_state_dict = lambda _: None  # type: ignore[method-assign, assignment] # a stand-in

    with pytest.raises(TypeError, match="expected a network with the method keypoint_rows, got Unknowing"):
        start_from(Unknowing(), coco_weights, CROWDPOSE, keypoints="new", build=lambda _: Unknowing())


def published(path: Path, skeleton: Skeleton, layout: Any) -> dict[str, Tensor]:
    shapes = published_shapes(network(skeleton, POSES).state_dict(), layout)
    state = {
        name: torch.rand(shape, generator=torch.Generator().manual_seed(number))
        for number, (name, shape) in enumerate(shapes.items())
    }
    torch.save(state, path)
    return state


@pytest.mark.parametrize("layout", [MMPOSE, OFFICIAL], ids=lambda layout: layout.name)
def test_published_weights_by_name(tmp_path: Path, layout: Any) -> None:
    path, build = tmp_path / "pose.pth", partial(network, heads=POSES)
    state = published(path, COCO, layout)
    target = build(CROWDPOSE)
    start_from(target, path, CROWDPOSE, keypoints="by_name", build=build)
    heads = state[layout.key("heads.0.heatmaps.conv.weight")]
    for keypoint in COMMON:
        i, j = CROWDPOSE.keypoints.index(keypoint), COCO.keypoints.index(keypoint)
        assert torch.equal(target.heads[0]["heatmaps"].conv.weight[i], heads[j])
        assert torch.equal(target.heads[0]["tags"].conv.weight[i], heads[17 + j])
    with pytest.raises(
        ValueError, match=r"17 keypoints of .*weights_keypoints=by_name .* or weights_keypoints=new"
    ):
        start_from(target, path, CROWDPOSE, build=build)


def test_published_weights_of_unknown_keypoints(tmp_path: Path) -> None:
    hand = Skeleton.from_dict({"keypoints": [f"joint {i}" for i in range(21)]})
    path, build = tmp_path / "hand.pth", partial(network, heads=POSES)
    state = published(path, hand, OFFICIAL)
    start_from(build(hand), path, hand, build=build)  # as many as the data have: the same
    with pytest.raises(ValueError, match=r"expected some keypoints.*'#20'.*weights_keypoints=new"):
        start_from(build(COCO), path, COCO, keypoints="by_name", build=build)
    target = build(COCO)
    start_from(target, path, COCO, keypoints="new", build=build)
    assert torch.equal(target.backbone.stem[0][0].weight, state["conv1.weight"])


def test_an_imagenet_backbone_has_no_keypoints(tmp_path: Path) -> None:
    path, build = tmp_path / "hrnet.pth", partial(network, heads=POSES)
    state = published(path, COCO, IMAGENET)
    target = build(CROWDPOSE)
    start_from(target, path, CROWDPOSE, keypoints="by_name", build=build)
    assert torch.equal(target.backbone.stem[0][0].weight, state["conv1.weight"])


def test_a_run_fine_tunes_a_checkpoint_of_coco_to_crowdpose(make_run: Any, tmp_path: Path) -> None:
    first = make_run(tmp_path / "coco", "trainer.max_steps=1", "trainer.limit_val_batches=0")
    first.trainer.fit(first.module, datamodule=first.data, weights_only=True)
    ckpt = tmp_path / "coco" / "last.ckpt"
    crowdpose = ("data.skeleton=crowdpose", f"weights={ckpt}", "trainer.max_steps=1")
    run = make_run(tmp_path / "crowdpose", *crowdpose, "weights_keypoints=by_name")
    theirs = torch.load(ckpt, weights_only=True)["state_dict"]["network.heads.1.heatmaps.conv.weight"]
    ours = run.module.network.heads[1]["heatmaps"].conv.weight
    assert torch.equal(ours[0], theirs[COCO.keypoints.index("left_shoulder")])
    before = ours.detach().clone()
    run.trainer.fit(run.module, datamodule=run.data, weights_only=True)
    assert not torch.equal(run.module.network.heads[1]["heatmaps"].conv.weight, before)
    with pytest.raises(
        ValueError, match=r"last\.ckpt: the weights are for the 17.*weights_keypoints=by_name"
    ):
        make_run(tmp_path / "same", *crowdpose)
    with pytest.raises(ValueError, match=r"weights_keypoints=new: expected weights=…, got none"):
        make_run(tmp_path / "none", "weights_keypoints=new")
