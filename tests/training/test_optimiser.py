import math

import pytest
import torch
from torch import nn

from swahr.training import AdamWithWarmup


def make(**changes):
    settings = {
        "lr": 1e-3, "reference_batch": 32, "weight_decay": 0.0, "epochs": 10,
        "warmup_epochs": 2.0, "warmup_start": 0.1, "decay": "linear", "milestones": (),
    }  # fmt: skip
    return AdamWithWarmup(**(settings | changes))


def test_warmup_and_linear_decay_reach_their_ends():
    schedule = make()
    assert schedule.factor(0) == pytest.approx(0.1)
    assert schedule.factor(1) == pytest.approx(0.55)
    assert schedule.factor(2) == pytest.approx(1.0)
    assert schedule.factor(6) == pytest.approx(0.5)
    assert schedule.factor(10) == pytest.approx(0.0)
    assert schedule.factor(11) == 0.0


def test_steps_divide_by_ten_at_each_milestone():
    schedule = make(decay="step", milestones=(4, 8), warmup_epochs=0.0)
    assert [schedule.factor(e) for e in (0, 3.99, 4, 8)] == pytest.approx([1, 1, 0.1, 0.01])
    assert make(decay="constant").factor(9) == 1.0


@pytest.mark.parametrize(("reference", "lr"), [(32, 2e-3), (None, 1e-3)])
def test_rate_is_scaled_to_the_batch_it_is_used_with(reference, lr):
    network = nn.Linear(2, 2)
    optimiser, schedule = make(reference_batch=reference, warmup_epochs=0.0)(
        network, batch_size=64, steps_per_epoch=4
    )
    assert optimiser.param_groups[0]["lr"] == pytest.approx(lr)
    for _ in range(20):
        optimiser.step()
        schedule.step()
    assert optimiser.param_groups[0]["lr"] == pytest.approx(lr * 0.5)
    assert math.isclose(schedule.last_epoch, 20)
    assert torch.isfinite(network.weight).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": -1}, r"training\.optimiser\.epochs.*got -1"),
        ({"decay": "step"}, r"training\.optimiser\.milestones"),
    ],
)
def test_a_schedule_that_would_teach_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_weight_decay_is_taken():
    optimiser, _ = make(weight_decay=0.01)(nn.Linear(2, 2), batch_size=32, steps_per_epoch=4)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.01]
