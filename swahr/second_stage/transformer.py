"""A symmetric spatial transformer around a single-person network (Fang et al., RMPE, ICCV 2017, section 3.1).

A localisation network predicts an affine map theta for each crop. The spatial transformer (STN) samples the
crop by theta, the single-person network finds heatmaps in the result, and the inverse transformer (SDTN)
samples these by gamma, the inverse of theta, which brings them back to the frame of the crop.

Coordinates are normalised, from -1 to 1 across the map, so that one theta fits maps of all strides. Pixel i
of n has its centre at (2 i + 1) / n - 1, as with ``align_corners=False``.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from swahr.model import Backbone
from swahr.model.higherhrnet import RgbImages
from swahr.model.hrnet import BasicBlock, conv_unit, initialise
from swahr.second_stage.wrapper import NetworkWrapper, NormalisedImages
from swahr.structures import Maps, NetworkOutput

Theta = Float[Tensor, "b 2 3"]
"""Affine maps of normalised coordinates, from the target's frame to the source's."""


def pixel_centres(maps: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, " w"], Float[Tensor, "h 1"]]:
    """The normalised x of a map's columns, and the y of its rows."""
    h, w = maps.shape[-2:]
    x, y = ((2 * torch.arange(n, dtype=maps.dtype, device=maps.device) + 1) / n - 1 for n in (w, h))
    return x, y[:, None]


def sample(maps: Float[Tensor, "b c h w"], theta: Theta) -> Float[Tensor, "b c h w"]:
    """Sample maps at theta (x, y, 1) for each pixel centre (x, y), equation 1; 0 outside the maps."""
    x, y = pixel_centres(maps)
    column = theta[:, :, :, None, None].unbind(2)  # each (b 2 1 1)
    grid = column[0] * x + column[1] * y + column[2]
    return F.grid_sample(
        maps, grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode="zeros", align_corners=False
    )


def inverse_affine(theta: Theta) -> Theta:
    """Return gamma: [g1 g2] = [t1 t2]^-1 and g3 = -[g1 g2] t3 (equations 3 and 4)."""
    (a, b), (c, d) = (row.unbind(1) for row in theta[:, :, :2].unbind(1))
    adjugate = torch.stack([torch.stack([d, -b], dim=1), torch.stack([-c, a], dim=1)], dim=1)
    linear = adjugate / (a * d - b * c)[:, None, None]
    return torch.cat([linear, -linear @ theta[:, :, 2:]], dim=2)


class ResNetFeature(nn.Module):
    """A small ResNet as a `swahr.model.Backbone`: at each width a strided convolution and a residual block.

    Args:
        widths: channels at strides 2, 4, 8, and so on.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"expected at least one width, all of them >= 1, got {list(widths)}")
        inputs = (3, *widths[:-1])
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(conv_unit(before, width, 3, stride=2), BasicBlock(width))
                for before, width in zip(inputs, widths, strict=True)
            )
        )
        self.apply(lambda module: initialise(module, None))
        self.channels, self.stride = widths[-1], 2 ** len(widths)
        self.size_multiple = self.stride

    def forward(self, images: NormalisedImages) -> Float[Tensor, "b c h w"]:
        """Return the feature of the last stride."""
        feature: Tensor = self.blocks(images)
        return feature


class LocalisationNetwork(nn.Module):
    """Predicts theta from where the channels of a backbone's feature are active.

    A linear layer reads every channel's mean and its means with x and y as factors. It starts at 0: theta is
    the identity. Its outputs pass tanh: the four elements of the matrix differ from the identity by less than
    ``deformation / 2`` and the translation is less than half a crop. The singular values of the matrix thus
    lie between 1 - deformation and 1 + deformation, so that theta can always be inverted.

    Args:
        backbone: such as `ResNetFeature`, or any `swahr.model.Backbone`.
        deformation: in (0, 1).

    Raises:
        TypeError: the backbone lacks an attribute.
        ValueError: ``deformation`` is out of range.
    """

    identity: Tensor
    limits: Tensor

    def __init__(self, backbone: nn.Module, deformation: float = 0.9) -> None:
        super().__init__()
        if not isinstance(backbone, Backbone):
            raise TypeError(
                "model.localise.backbone: expected a backbone with channels, stride and size_multiple "
                f"(swahr.model.Backbone), got {type(backbone).__name__}"
            )
        if not 0 < deformation < 1:
            raise ValueError(f"model.localise.deformation: expected a number in (0, 1), got {deformation}")
        self.backbone, self.size_multiple = backbone, backbone.size_multiple
        self.linear = nn.Linear(3 * backbone.channels, 6)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("identity", torch.eye(2, 3), persistent=False)
        limits = torch.tensor([deformation / 2, deformation / 2, 1.0]).expand(2, 3).clone()
        self.register_buffer("limits", limits, persistent=False)

    def forward(self, images: NormalisedImages) -> Theta:
        """Return theta of each image, in float32 or wider also under autocast."""
        feature = self.backbone(images)
        with torch.autocast(images.device.type, enabled=False):
            feature = feature.to(self.linear.weight.dtype)
            x, y = pixel_centres(feature)
            moments = [(feature * factor).mean(dim=(2, 3)) for factor in (torch.ones_like(x), x, y)]
            raw = self.linear(torch.cat(moments, dim=1)).view(-1, 2, 3)
            return self.identity + self.limits * torch.tanh(raw)


class SpatialTransformerNetwork(NetworkWrapper):
    """A single-person network between a spatial transformer and its inverse; maps are in the crop's frame.

    Args:
        network: predicts maps of one person (`swahr.model.HigherHRNet`), aligned by the pixels' centres.
        localise: predicts theta (`LocalisationNetwork`).
    """

    def __init__(self, network: nn.Module, localise: nn.Module) -> None:
        multiple: Any = localise.size_multiple
        super().__init__(network, multiple)
        self.localise = localise

    def forward(self, images: RgbImages) -> NetworkOutput:
        """Return the maps of each person. Frame: input. Images are as in `swahr.model.HigherHRNet`."""
        transformed, theta = self.transform(images)
        return self.restore(self.network(transformed), theta)

    def transform(self, images: RgbImages) -> tuple[NormalisedImages, Theta]:
        """Return the normalised images, sampled by theta, and theta."""
        normalised = self.normalised(images)
        theta: Theta = self.localise(normalised)
        return self.sampled(normalised, theta), theta

    def sampled(self, images: RgbImages, theta: Theta) -> NormalisedImages:
        """Return the normalised images, sampled by theta; pixels outside are black."""
        black = -self.mean / self.std
        return sample(self.normalised(images) - black, theta) + black

    def restore(self, output: NetworkOutput, theta: Theta) -> NetworkOutput:
        """Return maps of the sampled images in the frame of the images: all are sampled by gamma."""
        gamma = inverse_affine(theta)
        with torch.autocast(theta.device.type, enabled=False):
            return tuple(
                Maps(
                    maps.stride,
                    {name: sample(one.to(gamma.dtype), gamma) for name, one in maps.fields.items()},
                )
                for maps in output
            )
