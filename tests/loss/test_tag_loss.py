import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from reference import losses as reference
from torch import Tensor

from swahr.loss import TagLoss
from swahr.loss.tags import Closeness, associative_embedding
from swahr.runs.watching import tag_separation


def _case(people: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tags = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    return tags, torch.randint(-1, 20, (2, people, 3), generator=generator)


@settings(deadline=None, max_examples=40)
@given(
    people=st.integers(0, 6), seed=st.integers(0, 10**6), closeness=st.sampled_from(["gaussian", "laplacian"])
)
def test_equals_the_slow_reference(people: int, seed: int, closeness: Closeness) -> None:
    tags, index = _case(people, seed)
    pull, push = associative_embedding(tags, index, closeness)
    slow_pull, slow_push = reference.associative_embedding(tags, index, closeness)
    torch.testing.assert_close((pull, push), (slow_pull, slow_push))
    (gradient,) = torch.autograd.grad((pull + 2 * push).sum(), tags)
    expected = torch.zeros_like(tags)
    if (slow_pull + slow_push).requires_grad:  # there are people
        (expected,) = torch.autograd.grad((slow_pull + 2 * slow_push).sum(), tags)
    torch.testing.assert_close(gradient, expected)


def test_two_people_by_hand() -> None:
    tags = torch.tensor([[1.0, 3.0, 0.0], [3.0, 5.0, 0.0]]).view(1, 2, 1, 3)
    pull, push = associative_embedding(tags, torch.tensor([[[0, 0], [1, -1]]]))
    assert pull.item() == pytest.approx(0.5)  # person 1: mean 2, deviations 1; person 2: one keypoint
    assert push.item() == pytest.approx(torch.tensor(-1.0).exp().item() / 2)  # means 2 and 3


def test_without_people_and_with_a_single_person() -> None:
    tags = torch.randn(3, 2, 4, 4, requires_grad=True)
    index = torch.full((3, 2, 2), -1)
    index[1, 0] = torch.tensor([3, 7])  # alone; row 1 is nobody
    index[2, 1, 0] = 5  # alone, with one keypoint, not in the first row
    pull, push = associative_embedding(tags, index)
    assert push.tolist() == [0, 0, 0]
    assert pull[0] == 0
    assert pull[1] > 0
    assert pull[2] == 0
    (pull.sum() + push.sum()).backward()
    assert not tags.grad[0].any()
    assert tags.grad.isfinite().all()


def test_no_rows_at_all() -> None:
    tags = torch.randn(2, 3, 4, 4, requires_grad=True)
    pull, push = associative_embedding(tags, torch.zeros(2, 0, 3, dtype=torch.int64))
    assert pull.tolist() == push.tolist() == [0, 0]
    (pull.sum() + push.sum()).backward()


def test_order_and_padding_of_people_are_irrelevant() -> None:
    tags, index = _case(6)
    mixed = torch.cat([index[:, torch.tensor([3, 0, 5, 1, 4, 2])], torch.full((2, 2, 3), -1)], dim=1)
    torch.testing.assert_close(associative_embedding(tags, index), associative_embedding(tags, mixed))


def test_more_than_thirty_people() -> None:
    tags, index = _case(45)
    found = associative_embedding(tags, index)
    torch.testing.assert_close(tuple(found), reference.associative_embedding(tags, index))


def test_only_differences_of_tags_matter() -> None:
    tags, index = _case(5)
    torch.testing.assert_close(associative_embedding(tags, index), associative_embedding(tags + 7, index))


def test_gradcheck() -> None:
    tags, index = _case(4)
    assert torch.autograd.gradcheck(lambda t: tuple(associative_embedding(t, index)), tags)


@pytest.mark.parametrize(("closeness", "apart"), [("laplacian", True), ("gaussian", False)])
def test_two_people_with_nearly_equal_tags_come_apart_within_forty_steps(closeness, apart) -> None:
    """By gradient descent from initial tags; the published push has hardly a gradient there."""
    index = torch.arange(34).view(1, 2, 17)
    tags = (0.001 * torch.randn(1, 17, 5, 7, generator=torch.Generator().manual_seed(0))).requires_grad_()
    for _ in range(40):
        (gradient,) = torch.autograd.grad(sum(associative_embedding(tags, index, closeness)).sum(), tags)
        tags = (tags - gradient).detach().requires_grad_()
    means = tags.flatten(2)[0, torch.arange(17), index[0]].mean(dim=1)
    distance = (means[0] - means[1]).abs()
    assert distance > 1 if apart else distance < 0.05


def test_closeness_by_hand() -> None:
    tags = torch.tensor([0.0, 3.0]).view(1, 1, 1, 2)
    index = torch.tensor([[[0], [1]]])
    assert associative_embedding(tags, index, "laplacian").push.item() == pytest.approx(math.exp(-3) / 2)


def test_separation_by_hand() -> None:
    tags = torch.tensor([[1.0, 3.0, 0.0], [3.0, 5.0, 0.0]]).view(1, 2, 1, 3)
    index = torch.tensor([[[0, 0], [1, 1], [-1, -1]]])
    assert tag_separation(tags, index).item() == pytest.approx(2.0)  # means 2 and 4, all deviations 1
    assert not tag_separation(tags.requires_grad_(), index).requires_grad
    assert math.isnan(tag_separation(tags, index[:, :1]).item())  # nobody else


def test_an_unknown_closeness_is_refused(untyped) -> None:
    with pytest.raises(ValueError, match=r"closeness.*laplacian"):
        TagLoss(closeness="cauchy")
