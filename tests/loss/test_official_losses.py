"""The official losses, reproduced: values and gradients."""

import pytest
import torch
from torch import Tensor

from swahr.loss.tags import associative_embedding
from swahr.structures import Maps, MapTargets, Targets

CASES = [
    ("multi_swahr17", 17, True),
    ("multi_swahr17_empty", 17, True),
    ("multi_swahr14", 14, True),
    ("multi_higher17", 17, False),
]


@pytest.fixture(scope="module")
def golden(golden_arrays):
    """Reads an array as float64 (integers as they are)."""
    stored = golden_arrays("c_losses.npz")

    def read(key: str) -> Tensor:
        values = torch.from_numpy(stored[key])
        return values.double() if values.is_floating_point() else values

    return read


def _close(ours: Tensor, official: Tensor) -> None:
    """The official numbers are float32: 1e-6 of each loss, and of a gradient's largest entry."""
    if official.ndim < 2:
        torch.testing.assert_close(ours, official, rtol=1e-6, atol=0)
    else:
        torch.testing.assert_close(ours, official, rtol=0, atol=1e-6 * official.abs().max().item())


def _tag_index(joints: Tensor, resolution: int) -> Tensor:
    """From the official slots, [k * h * w + y * w + x, 1] in any order, to a place per keypoint."""
    index = torch.full(joints.shape[:3], -1)
    image, person, slot = torch.nonzero(joints[..., 1] > 0, as_tuple=True)
    flat = joints[image, person, slot, 0].long()
    index[image, person, flat // resolution**2] = flat % resolution**2
    return index


def _heat_scene(golden, *, adaptive: bool) -> tuple[tuple[Maps, ...], Targets]:
    predictions = golden("heat/pred").requires_grad_()
    fields = {"heatmaps": predictions, "tags": torch.zeros_like(predictions)}
    fields |= {"scale_maps": golden("heat/scale_raw").requires_grad_()} if adaptive else {}
    target = MapTargets(4, golden("heat/mask") > 0, {"heatmaps": golden("heat/gt")})
    return (Maps(4, fields),), Targets((target,), torch.zeros(2, 0, 5).long())


def test_scale_and_weight_adaptive_heatmap_loss(golden, criterion) -> None:
    output, targets = _heat_scene(golden, adaptive=True)
    terms = criterion("taylor", "derived")(output, targets)
    _close(terms["heatmap_4"], golden("heat/loss"))
    _close(terms["scale_map_4"], golden("heat/scale_loss"))
    leaves = [output[0].heatmaps, output[0].scale_maps]
    predictions, scale_map = torch.autograd.grad(terms["heatmap_4"].sum(), leaves, retain_graph=True)
    _close(predictions, golden("heat/grad_pred"))
    _close(scale_map, golden("heat/grad_scale"))
    (regulariser,) = torch.autograd.grad(terms["scale_map_4"].sum(), leaves[1])
    _close(regulariser, golden("heat/scale_loss_grad_scale"))


@pytest.mark.parametrize(("pixel_weight", "key"), [("derived", "loss_scale0"), ("none", "loss_higherhrnet")])
def test_heatmap_loss_without_scale_maps(golden, criterion, pixel_weight, key) -> None:
    terms = criterion(pixel_weight=pixel_weight)(*_heat_scene(golden, adaptive=False))
    _close(terms["heatmap_4"], golden(f"heat/{key}"))


def test_associative_embedding(golden) -> None:
    tags = golden("ae/tags").requires_grad_()
    terms = associative_embedding(tags, _tag_index(golden("ae/joints"), tags.shape[-1]))
    for name, term in terms._asdict().items():
        _close(term, golden(f"ae/exp/{name}"))
        _close(torch.autograd.grad(term.sum(), tags, retain_graph=True)[0], golden(f"ae/exp/grad_{name}"))


@pytest.mark.parametrize(("case", "num_keypoints", "adaptive"), CASES)
def test_the_trainers_total_and_its_gradients(golden, criterion, case, num_keypoints, adaptive) -> None:
    stacked = [golden(f"{case}/out{level}").requires_grad_() for level in (0, 1)]
    output, maps = [], []
    for level, stride in enumerate((4, 2)):
        names = (["scale_maps"] if adaptive else []) + ["heatmaps"] + (["tags"] if level == 0 else [])
        parts = stacked[level].split(num_keypoints, dim=1)
        output.append(Maps(stride, dict(zip(names, parts, strict=True))))
        valid, heatmaps = golden(f"{case}/mask{level}") > 0, golden(f"{case}/gt{level}")
        maps.append(MapTargets(stride, valid, {"heatmaps": heatmaps}))
    index = _tag_index(golden(f"{case}/joints0"), stacked[0].shape[-1])
    choice = ("taylor", "derived") if adaptive else ()
    terms = criterion(*choice)(tuple(output), Targets(tuple(maps), index))

    for level, stride in enumerate((4, 2)):
        _close(terms[f"heatmap_{stride}"], golden(f"{case}/heat_loss{level}"))
        if adaptive:
            _close(terms[f"scale_map_{stride}"], golden(f"{case}/scale_loss{level}"))
    _close(terms["tags_pull"], golden(f"{case}/pull0"))
    _close(terms["tags_push"], golden(f"{case}/push0"))
    total = sum(term.mean() for term in terms.values())
    _close(total, golden(f"{case}/total"))
    for level, gradient in enumerate(torch.autograd.grad(total, stacked)):
        _close(gradient, golden(f"{case}/grad_out{level}"))
