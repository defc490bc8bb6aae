"""Adversarial training: whose parameters a step changes, resumption, settings, and whole runs."""

import json

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from smoke_run import smoke_run

from swahr import Predictor
from swahr.cli.command import compose_config
from swahr.training.build import build_training

FAST = (
    "training=adversarial", "trainer.gradient_clip_val=null", "training.callbacks.pictures=null",
    "training.callbacks.curves=null", "trainer.log_every_n_steps=1", "trainer.num_sanity_val_steps=0",
    "training.module.pose_discriminator.channels=[8]",
    "training.module.confidence_discriminator.channels=[8]",
)  # fmt: skip
STATE = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")


@pytest.fixture
def make_run(tmp_path):
    def make(name, *overrides):
        return smoke_run(tmp_path / name, *FAST, *overrides)

    return make


def fit(run, ckpt=None):
    run.trainer.fit(run.module, datamodule=run.data, ckpt_path=ckpt, weights_only=True)
    return run


def parameters(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def equal(some, others):
    return all(map(torch.equal, some, others))


class Snapshots(Callback):
    """The parameters of network and discriminators before every step, and after the last."""

    def __init__(self):
        self.taken = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        mine = [name for name in ("network", "discriminators")
                if own >= {id(parameter) for parameter in getattr(module, name).parameters()}]  # fmt: skip
        assert all(parameter.grad is not None for parameter in getattr(module, mine[0]).parameters())
        self.taken.append((mine, parameters(module.network), parameters(module.discriminators)))

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.is_last_batch:
            self.taken.append(([], parameters(module.network), parameters(module.discriminators)))


def test_a_step_of_one_leaves_the_other_unchanged(make_run):
    run = make_run("run", "loss=mse")
    run.trainer.callbacks.append(snapshots := Snapshots())
    fit(run)
    assert [mine for mine, *_ in snapshots.taken] == [["discriminators"], ["network"]] * 2 + [[]]
    for i, (before, after) in enumerate(zip(snapshots.taken[:-1], snapshots.taken[1:], strict=True)):
        assert equal(before[1], after[1]) == (i % 2 == 0)
        assert equal(before[2], after[2]) == (i % 2 == 1)
    assert run.trainer.global_step == 2  # the generator's
    logged = run.trainer.callback_metrics
    assert float(logged["train/pose_labels"]) <= 1
    parts = [float(logged[f"train/{name}_adversarial"]) for name in ("pose", "confidence")]
    assert max(parts) < 0  # logarithms


def test_accumulated_batches_make_one_step_of_each(make_run):
    run = make_run("run", "loss=mse", "training.module.accumulate_grad_batches=2")
    run.trainer.callbacks.append(snapshots := Snapshots())
    fit(run)
    assert [mine for mine, *_ in snapshots.taken] == [["discriminators"], ["network"], []]
    assert run.trainer.global_step == 1
    assert [schedule.last_epoch for schedule in run.module.lr_schedulers()] == [1, 1]


def test_right_predictions_have_no_adversarial_loss(make_run):
    run = make_run("run", "loss=mse")
    run.module._labels = lambda batch, *_: {
        name: torch.ones(batch.visibility.shape[::2]) for name in ("pose", "confidence")
    }
    fit(run)
    for name in ("pose", "confidence"):
        assert float(run.trainer.callback_metrics[f"train/{name}_adversarial"]) == 0
        assert float(run.trainer.callback_metrics[f"train/{name}_discriminator"]) > 0


def test_weights_have_the_papers_proportion_to_half_of_the_summed_squares(make_run, monkeypatch):
    """L_G + beta L_P over the paper's L_G, a sum over pixels, is that of ours over the mean over pixels."""
    monkeypatch.setattr(
        "swahr.procedures.adversarial.generator_loss", lambda logits, *_, **__: 0 * logits.mean(dim=1) - 1
    )
    run = make_run("run", "loss=mse")
    pixels = run.module.encode_targets(next(iter(run.data.train_dataloader()))).maps[-1].heatmaps[0].numel()
    fit(run)
    for name, weight in (("pose", 1 / 180), ("confidence", 1 / 220)):
        found = float(run.trainer.callback_metrics[f"train/{name}_adversarial"])
        assert found == pytest.approx(-weight / (pixels / 2), rel=1e-6)


def test_labels_follow_the_annotations(make_run):
    """Targets as predictions are right; shifted by half the image, they are wrong where anybody is."""
    run = make_run("run", "loss=mse")
    batch = next(iter(run.data.train_dataloader()))
    target = run.module.encode_targets(batch).maps[-1]
    labels = run.module._labels(batch, target, target.heatmaps * target.valid[:, None])
    assert all(bool((values == 1).all()) for values in labels.values())
    labelled = (batch.visibility > 0).any(dim=1)
    assert labelled.any()
    shifted = run.module._labels(batch, target, target.heatmaps.roll(16, dims=3))
    assert bool((shifted["pose"][labelled] == 0).all())
    assert bool((shifted["confidence"][labelled] == 0).all())
    assert bool((shifted["pose"][~labelled] == 1).all())


def test_one_and_one_epoch_equal_two_bit_for_bit(make_run, tmp_path):
    schedule = "training.optimiser.epochs=2"
    fit(make_run("whole", schedule, "trainer.max_epochs=2"))
    fit(make_run("first", schedule, "trainer.max_epochs=1"))
    fit(make_run("second", schedule, "trainer.max_epochs=2"), tmp_path / "first" / "last.ckpt")
    whole, resumed, first = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "second", "first")
    )
    assert len(whole["optimizer_states"]) == 2
    assert any(name.startswith("discriminators.pose.") for name in whole["state_dict"])
    for key in STATE:
        assert_same(whole[key], resumed[key])
    assert whole["global_step"] == resumed["global_step"] == 4
    with pytest.raises(AssertionError):  # the comparison can fail
        assert_same(whole["state_dict"], first["state_dict"])


def assert_same(some, others):
    if isinstance(some, torch.Tensor):
        assert torch.equal(some, others)
    elif isinstance(some, dict):
        assert some.keys() == others.keys()
        for key in some:
            assert_same(some[key], others[key])
    elif isinstance(some, list | tuple):
        assert len(some) == len(others)
        for pair in zip(some, others, strict=True):
            assert_same(*pair)
    else:
        assert some == others


def test_gradients_are_clipped_per_optimiser(make_run):
    module = make_run("run", "training.module.gradient_clip_val=0.5").module
    first, second = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    first.grad, second.grad = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.0])
    module.on_before_optimizer_step(torch.optim.SGD([first], lr=1.0))
    assert torch.allclose(first.grad, torch.tensor([0.3, 0.4]))
    assert second.grad.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.gradient_clip_val=5", "trainer.gradient_clip_val: expected null .* got 5; set "
         "training.module.gradient_clip_val instead"),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches: expected 1 .* got 2; set "
         "training.module.accumulate_grad_batches instead"),
        ("training.module.delta=0", "expected alpha and beta of at least 0, and delta, .* 0, 0.3"),
        ("training.module.alpha=-1", "expected alpha and beta of at least 0"),
        ("training.module.gradient_clip_val=0", "training.module.gradient_clip_val: expected a norm above 0"),
        ("training.module.normalise=head", "training.module.normalise: expected one of 'person', 'map'"),
        ("training.module.zero_for=image", "training.module.zero_for: expected one of 'sample', 'keypoint'"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("untyped")
def test_settings_that_cannot_be_are_named(make_run, override, message):
    with pytest.raises(ValueError, match=message):
        fit(make_run("run", override))


@pytest.mark.parametrize(("name", "value"), [("precision", "16-mixed"), ("world_size", 2)])
def test_scaled_losses_and_several_processes_are_refused(make_run, monkeypatch, name, value):
    run = make_run("run")
    monkeypatch.setattr(type(run.trainer), name, property(lambda _: value))
    run.module.trainer = run.trainer
    with pytest.raises(ValueError, match=rf"trainer\.(precision|devices): expected .* got {value}"):
        run.module.configure_callbacks()


def test_a_loss_that_is_not_finite_stops_the_run_before_a_step(make_run):
    run = make_run("run", "loss=mse")
    before = parameters(run.module.discriminators)
    with torch.no_grad():
        run.module.discriminators["pose"].head.bias += float("nan")
    with pytest.raises(FloatingPointError, match=r"\['pose_discriminator'\] are not finite"):
        fit(run)
    assert equal(before[:2], parameters(run.module.discriminators)[:2])


def test_a_bottom_up_network_trains_and_its_best_weights_predict(make_run, tmp_path):
    maps = ("experiment=[smoke,occlusion_maps]", "grouping.peaks.threshold=-1", "grouping.peaks.max_people=1")
    fit(make_run("run", *maps, "trainer.precision=bf16-mixed"))
    predictor = Predictor.from_checkpoint(tmp_path / "run" / "best.safetensors", device="cpu")
    poses = predictor(np.full((64, 64, 3), 90, np.uint8))
    assert poses.skeleton.name == "coco"
    assert poses.occluded is not None


def test_the_experiment_trains_both_stacks_on_crops(tmp_path):
    overrides = (
        "experiment=adversarial_crops", *FAST[2:], "data.module.augmentation.input_size=[64,32]",
        "data.module.train.size=4", "data.module.val.size=2", "data.module.train.image_size=[64,64]",
        "data.module.batch_size=2", "data.module.workers=0", "trainer.max_epochs=1",
        "trainer.accelerator=cpu", "trainer.check_val_every_n_epoch=1",
        "model.channels=8", f"output={tmp_path}",
    )  # fmt: skip
    run = build_training(compose_config("train", list(overrides)), tmp_path)
    first = {name: value.clone() for name, value in run.module.network.heads[0].state_dict().items()}
    fit(run)
    for name, value in run.module.network.heads[0].state_dict().items():
        assert not torch.equal(value, first[name]), name
    assert (tmp_path / "best.safetensors").is_file()
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert json.loads(content["swahr"])["config"]["model"]["stacks"] == 2
