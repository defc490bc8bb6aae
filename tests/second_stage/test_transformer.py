"""The spatial transformer and its inverse: the pixel convention, the inverse, gradients, and export."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swahr.model import HeatmapHead, HigherHRNet
from swahr.model.higherhrnet import IMAGENET_MEAN, IMAGENET_STD
from swahr.runs.initial_weights import KeypointNetwork
from swahr.second_stage import LocalisationNetwork, ResNetFeature, SpatialTransformerNetwork
from swahr.second_stage.transformer import inverse_affine, sample
from swahr.structures import Maps, NetworkOutput

BLACK = -torch.tensor(IMAGENET_MEAN).view(3, 1, 1) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
PLAIN = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])


def network(num_keypoints: int = 4, *, seed: int = 0) -> SpatialTransformerNetwork:
    """A small single-person network between the transformers; heads that predict something."""
    torch.manual_seed(seed)
    heads = {"heatmaps": partial(HeatmapHead, num_keypoints=num_keypoints)}
    person = HigherHRNet(ResNetFeature([8, 8]), heads)
    nn.init.normal_(person.heads[0]["heatmaps"].conv.weight)  # type: ignore[index,union-attr] # modules of ours
    return SpatialTransformerNetwork(person, LocalisationNetwork(ResNetFeature([8, 8, 8])))


def moved(
    net: SpatialTransformerNetwork, *, deviation: float = 0.3, seed: int = 1
) -> SpatialTransformerNetwork:
    """The network with another theta than the identity."""
    nn.init.normal_(net.localise.linear.bias, std=deviation, generator=torch.Generator().manual_seed(seed))
    return net


def crops(count: int = 2, size: tuple[int, int] = (64, 48)) -> Tensor:
    return torch.randint(0, 256, (count, 3, *size), generator=torch.Generator().manual_seed(0)).byte()


def thetas(count: int, spread: float = 0.4, seed: int = 0) -> Tensor:
    random = torch.rand(count, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return PLAIN.double() + spread * (2 * random - 1)


def test_convention_the_grid_is_that_of_align_corners_false() -> None:
    maps, theta = torch.randn(3, 2, 12, 20, dtype=torch.float64), thetas(3)
    grid = F.affine_grid(theta, [3, 2, 12, 20], align_corners=False)
    expected = F.grid_sample(maps, grid, align_corners=False)
    torch.testing.assert_close(sample(maps, theta), expected, rtol=0, atol=1e-12)


def test_a_shift_by_hand() -> None:
    """A shift of 2 / w in normalised coordinates is one pixel: the target's pixel i is the source's i + 1."""
    maps = torch.arange(12.0).view(1, 1, 3, 4)
    right = PLAIN + torch.tensor([[[0, 0, 2 / 4], [0, 0, 0]]])
    expected = torch.tensor([[1.0, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]])
    torch.testing.assert_close(sample(maps, right)[0, 0], expected)
    down = PLAIN + torch.tensor([[[0, 0, 0], [0, 0, 2 / 3]]])
    torch.testing.assert_close(sample(maps, down)[0, 0, :2], maps[0, 0, 1:])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-0.45, 0.45), min_size=4, max_size=4), *[st.floats(-1, 1)] * 2)
def test_gamma_inverts_theta(elements: list[float], x: float, y: float) -> None:
    a, b, c, d = elements
    theta = torch.tensor([[[1 + a, b, x], [c, 1 + d, y]]], dtype=torch.float64)
    gamma = inverse_affine(theta)
    product = gamma[0, :, :2] @ theta[0]
    product[:, 2] += gamma[0, :, 2]
    torch.testing.assert_close(product, PLAIN[0].double(), rtol=0, atol=1e-9)
    both = torch.cat([theta[0], torch.tensor([[0.0, 0, 1]], dtype=torch.float64)])
    torch.testing.assert_close(gamma[0], torch.linalg.inv(both)[:2], rtol=1e-9, atol=1e-9)


def test_gradients_of_the_inverse_and_of_the_whole_chain() -> None:
    """Equation 5: the loss reaches theta through the sampling, through gamma's matrix and its translation."""
    theta = thetas(2, 0.3).requires_grad_()
    assert torch.autograd.gradcheck(inverse_affine, theta)
    mix = torch.randn(2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images = torch.randn(2, 1, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def chain(images: Tensor, theta: Tensor) -> Tensor:
        heat = torch.tanh(F.conv2d(sample(images, theta), mix, padding=1, stride=2))
        return sample(heat, inverse_affine(theta))

    assert torch.autograd.gradcheck(chain, (images.requires_grad_(), theta))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_new_network_equals_the_plain_one(training: bool, dtype: torch.dtype, tolerance: float) -> None:
    net = network().to(dtype).train(training)
    with torch.no_grad():
        (expected,), (found,) = net.network(crops()), net(crops())
    largest = float(expected.heatmaps.abs().max())
    assert largest > 0.1
    torch.testing.assert_close(found.heatmaps, expected.heatmaps, rtol=0, atol=tolerance * largest)
    assert (found.stride, net.strides, net.size_multiple) == (4, (4,), 8)


class Light(nn.Module):
    """A person network that sees light; its heat is 0 where images are black."""

    strides, size_multiple = (1,), 1

    def forward(self, images: Tensor) -> NetworkOutput:
        return (Maps(1, {"heatmaps": images - BLACK}),)


def test_heat_stays_where_the_light_is_in_the_crop_whatever_theta_is() -> None:
    net = SpatialTransformerNetwork(Light(), network().localise).eval()
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    blob = torch.exp(-((x - 27) ** 2 + (y - 30) ** 2) / 50).expand(2, 3, 64, 48)
    with torch.no_grad():
        found = moved(net)(blob + BLACK)[0].heatmaps
        theta = net.transform(blob + BLACK)[1]
    assert (theta - PLAIN).abs().max() > 0.05
    assert (found - blob)[:, :, 24:37, 21:34].abs().max() < 0.05
    assert found[0, 0].argmax() == 30 * 48 + 27


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_theta_stays_invertible(scale: float) -> None:
    net = network().eval()
    for seed in range(20):
        moved(net, deviation=scale, seed=seed)
        theta = net.localise(torch.zeros(1, 3, 64, 48))
        singular = torch.linalg.svdvals(theta[:, :, :2])
        assert singular.min() >= 0.1 - 1e-5
        assert singular.max() <= 1.9 + 1e-5
        assert theta[:, :, 2].abs().max() <= 1
        output = net(crops(1))[0].heatmaps
        assert torch.isfinite(output).all()
        gradients = torch.autograd.grad(output.square().sum(), net.localise.linear.bias)[0]
        assert torch.isfinite(gradients).all()


def test_images_outside_the_crop_are_black_and_floats_are_as_in_the_person_network() -> None:
    net = network()
    nn.init.constant_(net.localise.linear.bias, 0.0)
    net.localise.linear.bias.data[2] = 9.0  # one half of the crop to the right
    transformed, _ = net.transform(torch.full((1, 3, 64, 48), 255, dtype=torch.uint8))
    torch.testing.assert_close(transformed[:, :, :, 26:], BLACK.expand(1, 3, 64, 22), rtol=0, atol=1e-5)
    torch.testing.assert_close(transformed[0, :, 0, 0], ((1 - net.network.mean) / net.network.std).flatten())
    prepared = net.network._prepare(crops())
    torch.testing.assert_close(net(prepared)[0].heatmaps, net(crops())[0].heatmaps, rtol=1e-4, atol=1e-4)


def test_theta_is_in_full_precision_under_autocast() -> None:
    net = moved(network()).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half, theta = net(crops())[0].heatmaps, net.transform(crops())[1]
    full = net(crops())[0].heatmaps
    assert (half.dtype, theta.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(half, full, rtol=0, atol=0.05 * float(full.detach().abs().max()))


def test_rows_of_keypoints() -> None:
    net = network()
    assert isinstance(net, KeypointNetwork)
    assert net.keypoint_rows() == {
        f"network.heads.0.heatmaps.conv.{part}": [0] for part in ("weight", "bias")
    }


def test_what_cannot_be_built(untyped: None) -> None:
    with pytest.raises(TypeError, match=r"model.localise.backbone: expected a backbone with channels"):
        LocalisationNetwork(nn.Conv2d(3, 4, 1))
    with pytest.raises(ValueError, match=r"model.localise.deformation: expected a number in \(0, 1\), got 1"):
        LocalisationNetwork(ResNetFeature([4]), deformation=1.0)
    with pytest.raises(ValueError, match="expected at least one width"):
        ResNetFeature([])


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="height and width are multiples of 4"):
        network()(crops(size=(64, 42)))
