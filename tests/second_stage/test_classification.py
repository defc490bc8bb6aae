"""Classification of pixels: values by hand, which pixels count, and heatmaps that are probabilities."""

from functools import partial
from math import log

import pytest
import torch
from torch import Tensor

from swahr.model import HeatmapHead
from swahr.second_stage import PixelClassification, SoftmaxHead
from swahr.structures import Maps, MapTargets


def scene(probabilities: Tensor, heatmaps: Tensor, valid: Tensor | None = None) -> tuple[Maps, MapTargets]:
    everywhere = torch.ones(len(heatmaps), *heatmaps.shape[2:], dtype=torch.bool)
    target = MapTargets(4, everywhere if valid is None else valid, {"heatmaps": heatmaps})
    return Maps(4, {"heatmaps": probabilities}), target


def test_by_hand() -> None:
    """Two keypoints, three pixels: the first keypoint's, the second's (which is nearer), and background."""
    probabilities = torch.tensor([[[[0.5, 0.3, 0.1]], [[0.2, 0.6, 0.1]]]])
    heatmaps = torch.tensor([[[[1.0, 0.6, 0.4]], [[0.0, 0.9, 0.0]]]])
    value = PixelClassification(negatives=1.0).at_stride(*scene(probabilities, heatmaps))
    torch.testing.assert_close(
        value, torch.tensor([-(log(0.5) + log(0.6) + log(0.8)) / 3]), rtol=0, atol=1e-5
    )
    valid = torch.tensor([[[True, False, True]]])
    value = PixelClassification(negatives=1.0).at_stride(*scene(probabilities, heatmaps, valid))
    torch.testing.assert_close(value, torch.tensor([-(log(0.5) + log(0.8)) / 2]), rtol=0, atol=1e-5)
    value = PixelClassification(threshold=0.95, negatives=1e-9).at_stride(*scene(probabilities, heatmaps))
    torch.testing.assert_close(value, torch.tensor([-log(0.5)]), rtol=0, atol=1e-5)


def test_a_seed_and_the_number_of_draws_determine_which_negatives_count() -> None:
    term = PixelClassification(negatives=0.1, seed=3)
    like = torch.zeros(4, 50, 50, dtype=torch.bool)
    first, second = term._drawn(like), term._drawn(like)
    assert not torch.equal(first, second)
    assert 0.08 < float(first.float().mean()) < 0.12
    resumed = PixelClassification(negatives=0.1, seed=3)
    resumed.load_state_dict({"draws": torch.tensor(1)})
    assert torch.equal(resumed._drawn(like), second)
    assert not torch.equal(PixelClassification(negatives=0.1, seed=5)._drawn(like), first)
    term.eval()
    assert torch.equal(term._drawn(like), term._drawn(like))  # draws nothing anew


def test_heatmaps_are_the_softmax_with_a_background_of_0() -> None:
    head = SoftmaxHead(3, partial(HeatmapHead, num_keypoints=2))
    feature = torch.randn(1, 3, 4, 4)
    odds = head.logits(feature).exp()
    torch.testing.assert_close(head(feature), odds / (1 + odds.sum(dim=1, keepdim=True)))
    assert head.keypoint_rows() == {"logits.conv.weight": [0], "logits.conv.bias": [0]}


def test_gradients_in_double_precision() -> None:
    head = SoftmaxHead(2, partial(HeatmapHead, num_keypoints=3)).double()
    heatmaps, term = torch.rand(2, 3, 4, 4).double(), PixelClassification(negatives=0.5).eval()

    def loss(feature: Tensor) -> Tensor:
        return term.at_stride(*scene(head(feature), heatmaps))

    assert torch.autograd.gradcheck(loss, (torch.randn(2, 2, 4, 4, dtype=torch.double, requires_grad=True),))


def test_a_confident_error_still_has_a_finite_loss_and_gradient() -> None:
    logits = torch.tensor([[[[60.0]], [[-60.0]]]], requires_grad=True)
    background = torch.zeros(1, 1, 1, 1)
    probabilities = torch.softmax(torch.cat([logits, background], dim=1), dim=1)[:, :-1]
    for heatmaps in (torch.zeros(1, 2, 1, 1), torch.tensor([[[[0.0]], [[1.0]]]])):
        value = PixelClassification(negatives=1.0).at_stride(*scene(probabilities, heatmaps))
        (gradient,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()


def test_heatmaps_that_are_no_probabilities_and_impossible_shares() -> None:
    for values in (torch.full((1, 2, 3, 3), -0.1), torch.full((1, 2, 3, 3), 0.6)):
        with pytest.raises(
            ValueError, match=r"expected heatmaps that are probabilities.*use swahr.second_stage"
        ):
            PixelClassification().at_stride(*scene(values, torch.zeros(1, 2, 3, 3)))
    for wrong in ({"threshold": 0.0}, {"negatives": 1.5}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected a number above 0 and up to 1"):
            PixelClassification(**wrong)


@pytest.mark.usefixtures("untyped")
def test_keypoints_are_learned_as_probabilities() -> None:
    torch.manual_seed(0)
    head = SoftmaxHead(3, partial(HeatmapHead, num_keypoints=3))
    optimiser, term = torch.optim.Adam(head.parameters(), lr=0.1), PixelClassification(negatives=0.3)
    heatmaps = torch.zeros(1, 3, 8, 8)
    heatmaps[0, [0, 1, 2], [1, 4, 6], [1, 2, 5]] = 1.0
    for _ in range(150):
        optimiser.zero_grad()
        term.at_stride(*scene(head(heatmaps), heatmaps)).sum().backward()
        optimiser.step()
    found = head(heatmaps)
    assert (found[heatmaps == 1] > 0.8).all()
    assert (found[heatmaps == 0] < 0.2).all()
