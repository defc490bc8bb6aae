"""Structured features: feature maps of each keypoint, which pass messages along the skeleton's tree.

Chu et al., Structured Feature Learning for Pose Estimation, CVPR 2016; docs/structured_features.md.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from swahr.map_kinds import HEATMAPS
from swahr.model import Head, HeatmapHead
from swahr.second_stage.tree import spanning_tree
from swahr.skeleton import Skeleton

Levels = list[Float[Tensor, "b _ h w"]]
"""The feature maps of a tree's keypoints, level by level from the root, keypoint by keypoint."""


class StructuredHeatmapHead(Head):
    """Heatmaps from structured features (Chu et al.).

    With the ReLU f, and messages m from keypoint to keypoint::

        A_k = f(x * a_k)    A'_k = f(A_k + sum over children c of m_ck(A'_c))    upward, from the leaves
        B_k = f(x * b_k)    B'_k = f(B_k + m_pk(B'_p)), p the parent of k        downward, from the root
        z_k = [A'_k, B'_k] * w_k

    A message is a stack of convolutions, without f between them: geometrical transform kernels, which move
    the response of a keypoint to where its neighbour would be, or suppress it.

    The head starts as a `HeatmapHead` (`start_as`): the last kernel of each message is 0, and z_k is computed
    from f(v_k) - f(-v_k) = v_k in both directions, where v_k is the plain head's heatmap. The weights of all
    other channels are 0.

    Args:
        inputs: channels of the feature x.
        skeleton: defines the keypoints and their tree (`swahr.second_stage.spanning_tree`).
        channels: feature maps of a keypoint per direction, at least 2 (published: 128).
        kernels: convolutions of each message.
        side: side of their kernels, an odd number of pixels; 1 lets a message stay in its pixel.

    Raises:
        ValueError: a number is out of its range.
    """

    kind = HEATMAPS
    feeds_deconvolution = True
    order: Tensor  # keypoints, level by level
    places: Tensor  # of each keypoint in that order
    parents: Tensor

    def __init__(
        self, inputs: int, skeleton: Skeleton, channels: int = 16, kernels: int = 3, side: int = 7
    ) -> None:
        super().__init__()
        if channels < 2 or kernels < 1 or side < 1 or side % 2 == 0:
            raise ValueError(
                "model.heads.heatmaps: expected channels >= 2, kernels >= 1 and an odd side, got "
                f"channels={channels}, kernels={kernels}, side={side}"
            )
        tree = spanning_tree(skeleton)
        self.outputs, self.channels = skeleton.num_keypoints, channels
        self.levels = [len(level) for level in tree.levels]
        # One row per keypoint: first the feature maps A and B, then the map z from them.
        self.weight = nn.Parameter(torch.empty(self.outputs, 2 * channels, inputs))
        self.bias = nn.Parameter(torch.empty(self.outputs, 2 * channels))
        self.map_weight = nn.Parameter(torch.empty(self.outputs, 2 * channels))
        self.map_bias = nn.Parameter(torch.empty(self.outputs))
        self.upward = nn.ModuleList(_messages(n, channels, kernels, side) for n in self.levels[1:])
        self.downward = nn.ModuleList(_messages(n, channels, kernels, side) for n in self.levels[1:])
        self.register_buffer("parents", torch.tensor(tree.parents))
        self.register_buffer("order", torch.tensor(tree.order), persistent=False)
        self.register_buffer("places", self.order.argsort(), persistent=False)
        for depth, (level, above) in enumerate(zip(tree.levels[1:], tree.levels, strict=False), start=1):
            # Places of keypoints in the level above, and in this one, of which the last is the padding.
            parents = torch.tensor([above.index(tree.parents[keypoint]) for keypoint in level])
            own = [(parents == place).nonzero()[:, 0] for place in range(len(above))]
            children = pad_sequence(own, padding_value=len(level))
            self.register_buffer(f"above_{depth}", _maps_of(parents, channels), persistent=False)
            self.register_buffer(f"children_{depth}", _maps_of(children, channels), persistent=False)
        self.initialise()

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Return one heatmap per keypoint."""
        upward = self._direction(feature, slice(None, self.channels), self._pass_up)
        downward = self._direction(feature, slice(self.channels, None), self._pass_down)
        return (upward + downward)[:, self.places] + self.map_bias[:, None, None]

    def _direction(
        self, feature: Float[Tensor, "b c h w"], part: slice, pass_on: Callable[[Levels], Levels]
    ) -> Float[Tensor, "b k h w"]:
        """One direction's summand of the maps, in the order of the tree."""
        weight, bias = self.weight[self.order, part], self.bias[self.order, part]
        own = F.relu(F.conv2d(feature, weight.flatten(0, 1)[..., None, None], bias.flatten()))
        levels = list(torch.split(own, [count * self.channels for count in self.levels], dim=1))
        structured = torch.cat(pass_on(levels), dim=1)
        return F.conv2d(structured, self.map_weight[self.order, part, None, None], groups=self.outputs)

    def _pass_up(self, levels: Levels) -> Levels:
        """Return A' from A, computed from the deepest level to the root."""
        for depth in range(len(levels) - 1, 0, -1):
            # Parents receive from their first children, then from their second ones, …; ONNX lacks index_add.
            sent = F.pad(self.upward[depth - 1](levels[depth]), (0, 0, 0, 0, 0, self.channels))
            received = [sent.index_select(1, child) for child in self.get_buffer(f"children_{depth}")]
            levels[depth - 1] = F.relu(sum(received, start=levels[depth - 1]))
        return levels

    def _pass_down(self, levels: Levels) -> Levels:
        """Return B' from B, computed from the root to the deepest level."""
        for depth in range(1, len(levels)):
            above = levels[depth - 1].index_select(1, self.get_buffer(f"above_{depth}"))
            levels[depth] = F.relu(levels[depth] + self.downward[depth - 1](above))
        return levels

    def initialise(self) -> None:
        """Start as a `HeatmapHead` that has just been initialised."""
        plain = HeatmapHead(self.weight.shape[2], self.outputs)
        plain.initialise()
        self.start_as(plain)

    @torch.no_grad()
    def start_as(self, plain: HeatmapHead) -> None:
        """Draw new weights with which the heatmaps are those of ``plain``."""
        nn.init.kaiming_normal_(self.weight.view(-1, self.weight.shape[2]), nonlinearity="relu")
        for tensor in (self.bias, self.map_weight, self.map_bias):
            nn.init.zeros_(tensor)
        for first in (0, self.channels):  # v and -v of either direction
            for channel, sign in ((first, 1), (first + 1, -1)):
                self.weight[:, channel] = sign * plain.conv.weight[..., 0, 0]
                self.bias[:, channel] = sign * plain.conv.bias if plain.conv.bias is not None else 0
                self.map_weight[:, channel] = sign / 2
        for stack in (*self.upward, *self.downward):
            *others, last = stack.children()
            for convolution in others:
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear")
            nn.init.zeros_(last.weight)

    def keypoint_rows(self) -> dict[str, list[int]]:
        """Rows of keypoints, and no rows for messages, which belong to pairs of keypoints."""
        own = ("weight", "bias", "map_weight", "map_bias")
        return {name: [0] if name in own else [] for name in self.state_dict()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load weights; weights for another tree are an error."""
        theirs, errors = state_dict.get(f"{prefix}parents"), rest[-1]
        if theirs is not None and theirs.tolist() != self.parents.tolist():
            errors.append(
                f"{prefix}parents: expected messages along the parents {self.parents.tolist()}, got "
                f"{theirs.tolist()}; use the limbs with which the weights were trained"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _maps_of(places: Int64[Tensor, "*s n"], channels: int) -> Int64[Tensor, "*s m"]:
    """The places of the feature maps of keypoints."""
    return (places[..., None] * channels + torch.arange(channels)).flatten(-2)


def _messages(count: int, channels: int, kernels: int, side: int) -> nn.Sequential:
    """The messages between ``count`` keypoints and their parents, side by side in groups."""
    width = count * channels
    return nn.Sequential(
        *(nn.Conv2d(width, width, side, padding=side // 2, groups=count, bias=False) for _ in range(kernels))
    )
