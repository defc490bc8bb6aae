"""Labels and losses of discriminators by hand; the stacked generator."""

import math
from functools import partial

import pytest
import torch

from swahr.model import HeatmapHead
from swahr.runs.initial_weights import take_over
from swahr.second_stage import ConfidenceDiscriminator, OcclusionHead, PoseDiscriminator, StackedGenerator
from swahr.second_stage.discriminators import (
    confidence_labels,
    discriminator_loss,
    generator_loss,
    log_agreement,
    person_sizes,
    pose_labels,
)


def heatmap(height, width, **peaks):
    """One map with values at named pixels, e.g. x3y2=0.9."""
    drawn = torch.zeros(1, 1, height, width)
    for name, value in peaks.items():
        x, y = name[1:].split("y")
        drawn[0, 0, int(y), int(x)] = value
    return drawn


def label(drawn, people, radii, labelled=None):
    flags = torch.tensor([[True] * len(people) if labelled is None else labelled])[..., None]
    positions = torch.tensor(people).view(1, -1, 1, 2)
    return float(pose_labels(drawn, positions, flags, torch.tensor([radii])))


def test_p_fake_of_one_person_is_one_below_the_distance():
    drawn = heatmap(6, 8, x5y2=0.9, x1y1=0.8)
    assert label(drawn, [[3.0, 2.0]], [2.1]) == 1  # the maximum is 2 pixels away
    assert label(drawn, [[3.0, 2.0]], [2.0]) == 0  # not below
    assert label(drawn, [[1.0, 1.0]], [2.0]) == 0  # a second maximum is not the highest


def test_p_fake_of_one_person_is_the_published_rule():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(40, 5, 9, 7, generator=generator)
    positions = torch.rand(40, 1, 5, 2, generator=generator) * 6
    radius = torch.full((40, 1), 3.0)
    found = maps.flatten(2).argmax(dim=2)
    found = torch.stack([found % 7, found // 7], dim=-1)
    expected = ((found - positions[:, 0]).norm(dim=-1) < 3).float()
    assert torch.equal(pose_labels(maps, positions, torch.ones(40, 1, 5, dtype=torch.bool), radius), expected)
    assert 0.2 < expected.mean() < 0.8


def test_p_fake_of_several_people_needs_a_peak_at_each():
    people, radii = [[1.0, 1.0], [6.0, 4.0]], [1.5, 1.5]
    assert label(heatmap(6, 8, x1y1=0.9, x6y4=0.2), people, radii) == 1
    assert label(heatmap(6, 8, x1y1=0.9), people, radii) == 0  # the second has no peak
    assert label(heatmap(6, 8, x1y1=0.9, x6y4=0.2, x3y3=0.3), people, radii) == 0  # a higher false peak
    assert label(heatmap(6, 8, x1y1=0.9), people, radii, labelled=[True, False]) == 1
    assert label(heatmap(6, 8), people, radii, labelled=[False, False]) == 1  # nobody is labelled
    assert label(heatmap(6, 8), people, radii) == 0  # a flat map has no maximum


def test_p_fake_without_people_is_one():
    nobody = torch.zeros(2, 0, 3, 2), torch.zeros(2, 0, 3, dtype=torch.bool), torch.zeros(2, 0)
    assert torch.equal(pose_labels(torch.rand(2, 3, 4, 4), *nobody), torch.ones(2, 3))
    assert person_sizes(*nobody[:2]).shape == (2, 0)


def test_the_size_of_a_person_is_the_longer_side_of_labelled_keypoints():
    keypoints = torch.tensor([[[[1.0, 2.0], [4.0, 9.0], [100.0, 0.0]], [[5.0, 5.0], [6.0, 6.0], [7.0, 7.0]]]])
    labelled = torch.tensor([[[True, True, False], [False, False, False]]])
    assert person_sizes(keypoints, labelled).tolist() == [[7.0, 0.0]]


def test_c_fake_is_one_where_every_pixel_is_within_epsilon():
    target = torch.cat([heatmap(4, 4, x1y1=1.0)] * 2, dim=1)
    predicted = torch.cat([heatmap(4, 4, x1y1=0.8, x2y2=0.1), heatmap(4, 4, x1y1=0.7)], dim=1)
    assert confidence_labels(predicted, target, epsilon=0.25).tolist() == [[1, 0]]


def test_agreement_equals_the_published_formula_and_does_not_overflow():
    logits = torch.tensor([[-3.0, -0.5, 0.0, 2.0]], dtype=torch.float64)
    for value in (0.0, 1.0):
        labels = torch.full_like(logits, value)
        expected = torch.log(1 - (logits.sigmoid() - labels).abs())
        assert torch.allclose(log_agreement(logits, labels), expected, rtol=0, atol=1e-12)
    assert log_agreement(torch.tensor([[200.0, -200.0]]), torch.tensor([[0.0, 1.0]])).tolist() == [
        [-200, -200]
    ]


def scores(*values):
    return torch.tensor([values], dtype=torch.float64).logit()


def test_losses_by_hand():
    real, fake = scores(0.9, 0.8), scores(0.25, 0.6)
    labels = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    expected = -(math.log(0.9) + math.log(0.8) + math.log(0.75) + math.log(0.6)) / 2
    assert float(discriminator_loss(real, fake, labels)) == pytest.approx(expected, abs=1e-12)
    by_sample = (math.log(0.75) + math.log(0.6)) / 2
    assert float(generator_loss(fake, labels)) == pytest.approx(by_sample, abs=1e-12)
    by_keypoint = math.log(0.75) / 2
    assert float(generator_loss(fake, labels, zero_for="keypoint")) == pytest.approx(by_keypoint, abs=1e-12)


@pytest.mark.parametrize("zero_for", ["sample", "keypoint"])
def test_the_generator_has_no_adversarial_gradient_where_labels_are_real(zero_for):
    fake = scores(0.25, 0.6).repeat(2, 1).requires_grad_()
    labels = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    generator_loss(fake, labels, zero_for=zero_for).sum().backward()
    assert fake.grad[0].tolist() == [0, 0]
    assert fake.grad[1, 0] == pytest.approx(-0.25 / 2)  # towards a higher score
    assert (fake.grad[1, 1] == 0) == (zero_for == "keypoint")


def test_gradients_of_the_losses():
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64).requires_grad_().unbind()
    labels = torch.randint(0, 2, (3, 4), generator=generator).double()
    assert torch.autograd.gradcheck(partial(discriminator_loss, labels=labels), (real, fake))
    assert torch.autograd.gradcheck(partial(generator_loss, labels=labels), (fake,))


def test_discriminators_have_a_score_per_keypoint_and_only_p_sees_the_image():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 32, 24), dtype=torch.uint8)
    maps = torch.rand(2, 10, 8, 6)
    for kind, sees_images in ((PoseDiscriminator, True), (ConfidenceDiscriminator, False)):
        judge = kind(num_keypoints=5, maps=2, channels=[8, 8])
        found = judge(images, maps)
        assert found.shape == (2, 5)
        assert (not torch.equal(judge(255 - images, maps), found)) == sees_images
        assert not torch.equal(judge(images, 1 - maps), found)
        with torch.autocast("cpu", torch.bfloat16):
            assert judge(images, maps).dtype == torch.float32
    with pytest.raises(ValueError, match="PoseDiscriminator: expected the channels of one or more"):
        PoseDiscriminator(num_keypoints=5, maps=1, channels=[])


def stacked(**settings):
    torch.manual_seed(0)
    heads = {
        "heatmaps": partial(HeatmapHead, num_keypoints=4),
        "occlusion": partial(OcclusionHead, num_keypoints=4),
    }
    return StackedGenerator(heads, **{"stacks": 3, "channels": 8, "depth": 2, **settings})


def test_every_stack_predicts_all_maps_and_sees_those_before_it():
    network, images = stacked().eval(), torch.randint(0, 256, (1, 3, 32, 16), dtype=torch.uint8)
    stacks = network.all_stacks(images)
    assert [len(output) for output in stacks] == [1, 1, 1]
    for (maps,) in stacks:
        assert {name: tuple(value.shape) for name, value in maps.fields.items()} == {
            "heatmaps": (1, 4, 8, 4), "occlusion": (1, 4, 8, 4),
        }  # fmt: skip
    assert torch.equal(network(images)[0].heatmaps, stacks[-1][0].heatmaps)
    with (
        torch.no_grad()
    ):  # another occlusion map of the first stack changes the second, not the first heatmaps
        network.heads[0]["occlusion"].conv.bias += 1
    changed = network.all_stacks(images)
    assert torch.equal(changed[0][0].heatmaps, stacks[0][0].heatmaps)
    assert not torch.equal(changed[1][0].heatmaps, stacks[1][0].heatmaps)
    with pytest.raises(ValueError, match="multiples of 16"):
        network(images[..., :8])


def test_joins_start_anew_for_keypoints_in_another_order():
    ours, theirs = stacked(stacks=2), stacked(stacks=2)
    before = ours.joins[0][0].weight.clone()
    unchanged = take_over(ours, theirs, [(0, 3), (1, 2), (2, 1), (3, 0)], (4, 4))
    assert unchanged == ["joins.0.0.weight"]
    assert torch.equal(ours.joins[0][0].weight, before)
    images = torch.randint(0, 256, (1, 3, 32, 16), dtype=torch.uint8)
    (own,), (other,) = (network.eval().all_stacks(images)[0] for network in (ours, theirs))
    torch.testing.assert_close(own.heatmaps, other.heatmaps.flip(1))


def test_a_generator_without_stacks_is_refused():
    with pytest.raises(ValueError, match="expected at least 1 of stacks, channels and depth, got 0, 8 and 2"):
        stacked(stacks=0)
