"""The structured head: messages by hand, its start, and a keypoint that needs its parent."""

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from small_network import small_network
from torch import Tensor, nn

from swahr.aggregate import Aggregator
from swahr.grouping import PeakExtractor
from swahr.inference import TorchNetwork, export_network, open_exported
from swahr.model import HeatmapHead, HigherHRNet
from swahr.runs.initial_weights import take_over
from swahr.second_stage import StructuredHeatmapHead, spanning_tree
from swahr.skeleton import COCO, CROWDPOSE, Skeleton

NINE = Skeleton.from_dict(
    {
        "keypoints": ["head", "neck", "lw", "rw", "lh", "rh", "tail", "la", "ra"],
        "limbs": [["head", "neck"], ["lw", "neck"], ["neck", "rw"], ["neck", "tail"], ["tail", "lh"],
                  ["rh", "tail"], ["lh", "la"], ["rh", "ra"]],
    }
)  # fmt: skip


def randomised(head: nn.Module) -> nn.Module:
    with torch.no_grad():
        for number, parameter in enumerate(head.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) / 3)
    return head


def message(stack: nn.Sequential, place: int, channels: int, maps: Tensor) -> Tensor:
    """One keypoint's message, without groups."""
    for convolution in stack:
        weight = convolution.weight[place * channels : (place + 1) * channels]
        maps = F.conv2d(maps, weight, padding=weight.shape[-1] // 2)
    return maps


def keypoint_by_keypoint(head: StructuredHeatmapHead, skeleton: Skeleton, feature: Tensor) -> Tensor:
    """The equations as written, one keypoint after the other."""
    tree, c = spanning_tree(skeleton), head.channels
    depth = {keypoint: d for d, level in enumerate(tree.levels) for keypoint in level}
    own = {
        k: F.relu(F.conv2d(feature, head.weight[k, :, :, None, None], head.bias[k])).split(c, dim=1)
        for k in tree.order
    }
    up, down = {k: a for k, (a, _) in own.items()}, {k: b for k, (_, b) in own.items()}
    for k in reversed(tree.order):
        for child in (one for one in tree.order if tree.parents[one] == k):
            place = tree.levels[depth[child]].index(child)
            up[k] = up[k] + message(head.upward[depth[k]], place, c, up[child])
        up[k] = F.relu(up[k])
    for k in tree.order[1:]:
        place = tree.levels[depth[k]].index(k)
        down[k] = F.relu(down[k] + message(head.downward[depth[k] - 1], place, c, down[tree.parents[k]]))
    both = {k: torch.cat([up[k], down[k]], dim=1) for k in tree.order}
    maps = [
        F.conv2d(both[k], head.map_weight[k][None, :, None, None], head.map_bias[[k]]) for k in sorted(both)
    ]
    return torch.cat(maps, dim=1)


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE, NINE, Skeleton.from_dict({"keypoints": ["dot"]})])
def test_messages_are_those_of_the_equations(skeleton: Skeleton) -> None:
    head = randomised(StructuredHeatmapHead(5, skeleton, channels=3, kernels=2, side=3)).double()
    feature = torch.randn(2, 5, 8, 7, dtype=torch.double, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(
        head(feature), keypoint_by_keypoint(head, skeleton, feature), rtol=1e-10, atol=1e-10
    )


def test_a_kernel_moves_a_child_to_its_parent() -> None:
    """By hand: the wrist's blob, moved three pixels to the left, is where the elbow is expected."""
    chain = Skeleton.from_dict({"keypoints": ["wrist", "elbow"], "limbs": [["wrist", "elbow"]]})
    head = StructuredHeatmapHead(2, chain, channels=2, kernels=1, side=7)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        root, leaf = spanning_tree(chain).order
        head.weight[leaf, 0, 0] = 1.0  # the leaf's first map A is the feature's first channel
        head.upward[0][0].weight[0, 0, 3, 6] = 2.0  # reads three pixels to the right
        head.map_weight[root, 0] = 1.0
        feature = torch.zeros(1, 2, 9, 9)
        feature[0, 0, 4, 5] = 1.0
        maps = head(feature)
    assert maps[0, root].nonzero().tolist() == [[4, 2]]
    assert float(maps[0, root, 4, 2]) == 2.0
    assert not maps[0, leaf].any()


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE, NINE])
def test_it_starts_as_the_plain_head(skeleton: Skeleton) -> None:
    torch.manual_seed(0)
    plain, head = HeatmapHead(6, skeleton.num_keypoints), StructuredHeatmapHead(6, skeleton, channels=4)
    feature = torch.randn(2, 6, 10, 12)
    head.start_as(plain)
    torch.testing.assert_close(head(feature), plain(feature), rtol=1e-5, atol=1e-6)
    torch.manual_seed(1)
    plain = HeatmapHead(6, skeleton.num_keypoints)
    plain.initialise()
    torch.manual_seed(1)
    head.initialise()
    torch.testing.assert_close(head(feature), plain(feature), rtol=1e-5, atol=1e-8)


def test_every_parameter_gets_a_gradient_after_the_first_steps() -> None:
    torch.manual_seed(0)
    head = StructuredHeatmapHead(6, NINE, channels=4, side=3)
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
    feature, target = torch.randn(2, 6, 8, 8), torch.rand(2, 9, 8, 8)
    for _ in range(3):
        optimiser.zero_grad()
        (head(feature) - target).square().mean().backward()
        optimiser.step()
    assert [name for name, value in head.named_parameters() if not value.grad.any()] == []


def test_gradients_in_double_precision() -> None:
    head = randomised(StructuredHeatmapHead(2, NINE, channels=2, kernels=2, side=3)).double()
    feature = torch.randn(1, 2, 3, 3, dtype=torch.double, generator=torch.Generator().manual_seed(3))
    feature.requires_grad_()
    assert torch.autograd.gradcheck(head, (feature,))


@pytest.mark.parametrize("numbers", [{"channels": 1}, {"kernels": 0}, {"side": 4}])
def test_impossible_numbers(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"expected channels >= 2, kernels >= 1 and an odd"):
        StructuredHeatmapHead(2, NINE, **numbers)


def network(skeleton: Skeleton) -> HigherHRNet:
    plain = small_network(skeleton.num_keypoints, heads=("heatmaps", "tags"))
    build = partial(StructuredHeatmapHead, skeleton=skeleton, channels=2, kernels=2, side=3)
    for level in plain.heads:
        level["heatmaps"] = build(8)
    return plain


@pytest.mark.usefixtures("untyped")
def test_it_is_exported_to_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'swahr[onnx]'")
    built, aggregate = randomised(network(COCO)), Aggregator(COCO.flip_permutation, flip=True)
    path = tmp_path / "network.onnx"
    export_network(path, network=built, aggregate=aggregate, extract_peaks=PeakExtractor(), description="{}")
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    expected = aggregate.forward_test_scale(TorchNetwork(built, device="cpu"), images)["heatmaps"]
    found = open_exported(path, backend="onnxruntime", precision="fp32")(images)["heatmaps"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_fine_tuning_takes_over_features_of_keypoints_but_no_messages() -> None:
    ours, theirs = network(CROWDPOSE), randomised(network(COCO))
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    common = [name for name in CROWDPOSE.keypoints if name in COCO.keypoints]
    pairs = [(CROWDPOSE.keypoints.index(name), COCO.keypoints.index(name)) for name in common]
    unchanged = take_over(ours, theirs, pairs, (14, 17))
    assert {name for name in before if "ward." in name or "parents" in name} == set(unchanged)
    after, source = ours.state_dict(), theirs.state_dict()
    for name in before:
        if name in unchanged:
            assert torch.equal(after[name], before[name]), name
    for part in ("weight", "bias", "map_weight", "map_bias"):
        key = f"heads.1.heatmaps.{part}"
        for i, j in pairs:
            assert torch.equal(after[key][i], source[key][j]), key
        assert torch.equal(after[key][12:], before[key][12:])  # head and neck
    with (
        torch.no_grad()
    ):  # as the messages of the new tree are 0, maps of common keypoints are the plain ones
        feature = torch.randn(1, 8, 8, 8)
        for stack in (*theirs.heads[0]["heatmaps"].upward, *theirs.heads[0]["heatmaps"].downward):
            stack[-1].weight.zero_()
        maps, expected = ours.heads[0]["heatmaps"](feature), theirs.heads[0]["heatmaps"](feature)
    for i, j in pairs:
        torch.testing.assert_close(maps[:, i], expected[:, j], rtol=1e-4, atol=1e-4)


def test_weights_for_another_tree_are_refused() -> None:
    other = Skeleton.from_dict(
        {"keypoints": NINE.keypoints, "limbs": [*NINE.limbs[:-1], ["rh", "head"]][::-1]}
    )
    trees = [spanning_tree(skeleton) for skeleton in (NINE, other)]
    assert trees[0].parents != trees[1].parents
    build = partial(StructuredHeatmapHead, 4, channels=2, kernels=1, side=3)
    build(NINE).load_state_dict(build(NINE).state_dict())
    with pytest.raises(RuntimeError, match=r"parents: expected messages along the parents"):
        build(other).load_state_dict(build(NINE).state_dict())


class Scene(nn.Module):
    """A tiny network: one 3x3 convolution, then a head on its feature."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.feature, self.head = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU()), head

    def forward(self, scenes: Tensor) -> Tensor:
        return self.head(self.feature(scenes))


def ambiguous(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Scenes (b 2 14 14) of two equal wrists and an elbow, and the heatmaps (b 2 14 14) of wrist and elbow.

    The person's wrist is 3 pixels right of and 2 below the elbow, the other one is out of the
    feature's sight, too, and all are off the border, where padding is seen.
    """
    axis = torch.arange(14)
    elbow = torch.randint(3, 8, (count, 2), generator=generator)  # (x, y)
    wrist = elbow + torch.tensor([3, 2])
    shifts = torch.tensor([[-5, 2], [2, -4], [-5, -4], [1, 3]])
    other = wrist + shifts[torch.randint(0, 4, (count,), generator=generator)]

    def blobs(points: Tensor) -> Tensor:
        squared = (axis - points[:, :1]).square()[:, None] + (axis - points[:, 1:]).square()[:, :, None]
        return (1 - squared / 2).clamp(min=0)  # a pixel and its four neighbours

    scenes = torch.stack([torch.maximum(blobs(wrist), blobs(other)), blobs(elbow)], dim=1)
    return scenes, torch.stack([blobs(wrist), blobs(elbow)], dim=1)


def share_found(head: nn.Module, *, steps: int = 150) -> float:
    """The share of new scenes in which the wrist is clearly the highest of its map after training."""
    torch.manual_seed(0)
    network, generator = Scene(head), torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(steps):
        scenes, heatmaps = ambiguous(8, generator)
        optimiser.zero_grad()
        (network(scenes) - heatmaps).square().mean().backward()
        optimiser.step()
    scenes, heatmaps = ambiguous(200, generator)
    with torch.no_grad():
        maps, wrist = network(scenes)[:, 0].flatten(1), heatmaps[:, 0].flatten(1)
    elsewhere = maps.masked_fill(wrist > 0, -torch.inf).amax(dim=1)
    return float((maps.gather(1, wrist.argmax(dim=1, keepdim=True))[:, 0] > elsewhere + 0.1).float().mean())


@pytest.mark.usefixtures("untyped")
def test_a_keypoint_that_needs_its_parent_is_found_with_messages_only() -> None:
    """Compared at equal feature and depth: the same head with messages of 1x1 kernels, and the plain head.

    The feature sees 3x3 pixels, so that neither control can see elbow and wrist at once; what is shown is
    that messages carry the elbow's place to the wrist. A network of a larger receptive field may do so, too.
    """
    chain = Skeleton.from_dict({"keypoints": ["wrist", "elbow"], "limbs": [["wrist", "elbow"]]})
    build = partial(StructuredHeatmapHead, 8, chain, channels=4, kernels=1)
    torch.manual_seed(0)
    with_messages, without, plain = map(share_found, (build(side=7), build(side=1), HeatmapHead(8, 2)))
    assert with_messages > 0.95
    assert without < 0.05
    assert plain < 0.05
