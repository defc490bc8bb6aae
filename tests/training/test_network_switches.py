"""Switches that change how a network computes in training, and not what."""

import pytest
import torch
from small_network import small_network

from swahr.execution import prepare_network
from swahr.model import HigherHRNet

OFF = {"channels_last": False, "compile": False, "activation_checkpointing": False}


def training_network() -> HigherHRNet:
    return small_network(5, heads=("heatmaps", "tags", "scale_maps")).train()


def step(network: HigherHRNet) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Loss, gradients and buffers after one training step on fixed images."""
    images = torch.randint(0, 255, (2, 3, 64, 64), generator=torch.Generator().manual_seed(1)).byte()
    loss = torch.stack([maps.heatmaps.square().mean() for maps in network(images)]).sum() * 1e4
    loss.backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return loss.detach(), gradients, dict(network.named_buffers())


@pytest.mark.parametrize("switch", ["channels_last", "activation_checkpointing"])
def test_a_step_is_the_same(switch):
    plain = step(prepare_network(training_network(), **OFF))
    switched = step(prepare_network(training_network(), **(OFF | {switch: True})))
    tolerance = (
        {"rtol": 0, "atol": 0} if switch == "activation_checkpointing" else {"rtol": 1e-3, "atol": 1e-3}
    )
    torch.testing.assert_close(switched, plain, **tolerance)


def test_checkpointing_keeps_less_for_the_backward_pass():
    def kept(network: HigherHRNet) -> int:
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            network(torch.zeros(1, 3, 128, 128, dtype=torch.uint8))
        return sum(sizes.values())

    less = prepare_network(training_network(), **(OFF | {"activation_checkpointing": True}))
    assert kept(less) < 0.6 * kept(training_network())


def test_the_switches_of_a_run(make_run, tmp_path):
    run = make_run(tmp_path / "a", "training.activation_checkpointing=true", "trainer.max_steps=1")
    assert run.module.network.backbone.layer1[0].recompute
    run.trainer.fit(run.module, datamodule=run.data, weights_only=True)
    with pytest.raises(ValueError, match=r"training\.compile and training\.activation_checkpointing exclude"):
        make_run(tmp_path / "b", "training.activation_checkpointing=true", "training.compile=true")


@pytest.mark.parametrize("arithmetic", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", ["swahr", "mse"])
def test_half_precision_has_finite_losses_and_gradients(make_run, tmp_path, arithmetic, loss):
    run = make_run(tmp_path, f"loss={loss}")
    batch, module = next(iter(run.data.train_dataloader())), run.module.train()
    with torch.autocast("cpu", arithmetic):
        output = module.network(batch.images)
        terms = module.criterion(output, module.encode_targets(batch))
    assert output[0].heatmaps.dtype == arithmetic
    assert all(torch.isfinite(values).all() for values in terms.values())
    torch.stack([values.mean() for values in terms.values()]).sum().backward()
    gradients = [p.grad for p in module.network.parameters() if p.grad is not None]
    assert any(bool((gradient != 0).any()) for gradient in gradients)
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_cudnn_searches_for_fast_algorithms_in_training_but_not_in_validation(make_run, tmp_path):
    run, during = make_run(tmp_path, "trainer.benchmark=true"), {"training": set(), "validation": set()}
    encode, pipeline = run.module.encode_targets, run.module.pipeline

    def noted(name, action):
        def act(*arguments):
            during[name].add(torch.backends.cudnn.benchmark)
            return action(*arguments)

        return act

    run.module.encode_targets, run.module.pipeline = noted("training", encode), noted("validation", pipeline)
    run.trainer.fit(run.module, datamodule=run.data, weights_only=True)
    assert during == {"training": {True}, "validation": {False}}
