import os
import signal

import pytest
import torch

from swahr.checkpoint import load_checkpoint


def fit(run, ckpt=None):
    run.trainer.fit(run.module, datamodule=run.data, ckpt_path=ckpt, weights_only=True)
    return run


def state(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)


def assert_equal(a, b, path=""):
    assert type(a) is type(b), path
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{path}[{i}]")
    else:
        assert a == b, path


RESUMED_STATE = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")


def test_two_and_two_epochs_equal_four_bit_for_bit(make_run, tmp_path):
    schedule = "training.optimiser.epochs=4"
    fit(make_run(tmp_path / "whole", schedule, "trainer.max_epochs=4"))
    fit(make_run(tmp_path / "first", schedule, "trainer.max_epochs=2"))
    fit(make_run(tmp_path / "second", schedule, "trainer.max_epochs=4"), tmp_path / "first" / "last.ckpt")
    whole, resumed, first = (state(tmp_path / name) for name in ("whole", "second", "first"))
    for key in (*RESUMED_STATE, "epoch", "global_step"):
        assert_equal(whole[key], resumed[key], key)
    with pytest.raises(AssertionError):  # the comparison can fail
        assert_equal(whole["state_dict"], first["state_dict"])


def test_interrupt_saves_and_resumes_to_the_same_weights(make_run, tmp_path):
    fit(make_run(tmp_path / "whole", "trainer.max_epochs=2"))
    run = make_run(tmp_path / "stopped", "trainer.max_epochs=2")
    step = run.module.training_step

    def stop_at_third(*batch_and_index):
        if run.trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*batch_and_index)

    run.module.training_step = stop_at_third
    # A shell's background jobs ignore Ctrl-C, and tests may run in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit):
            fit(run)
    finally:
        signal.signal(signal.SIGINT, before)
    interrupted = tmp_path / "stopped" / "interrupted.ckpt"
    assert load_checkpoint(interrupted).skeleton.name == "coco"
    fit(make_run(tmp_path / "resumed", "trainer.max_epochs=2"), interrupted)
    whole, resumed = state(tmp_path / "whole"), state(tmp_path / "resumed")
    assert_equal(whole["current_model_state"], resumed["current_model_state"])
    assert_equal(whole["state_dict"], resumed["state_dict"])


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_images(make_run, tmp_path):
    run = make_run(tmp_path)
    forward = run.module.criterion.forward
    seen = []

    def poisoned(output, targets):
        terms = forward(output, targets)
        seen.append(terms["tags_pull"].shape)
        terms["tags_pull"] = terms["tags_pull"] * torch.tensor([1.0, float("nan")])
        return terms

    run.module.criterion.forward = poisoned
    before = {name: value.clone() for name, value in run.module.network.named_parameters()}
    with pytest.raises(
        FloatingPointError, match=r"\['tags_pull'\] are not finite for the images with ids \[\d+\]"
    ):
        fit(run)
    assert seen == [torch.Size([2])]
    assert all(torch.equal(value, before[name]) for name, value in run.module.network.named_parameters())


def test_a_resumed_checkpoint_cannot_name_files_to_delete(make_run, tmp_path):
    fit(make_run(tmp_path / "first", "trainer.max_epochs=1"))
    victim = tmp_path / "victim"
    victim.mkdir()
    content = state(tmp_path / "first")
    (key,) = (key for key in content["callbacks"] if key.startswith("ModelCheckpoint"))
    for path in (str(victim), f"local://{victim}"):
        content["callbacks"][key] |= {
            "best_model_path": path,
            "last_model_path": path,
            "kth_best_model_path": path,
        }
        content["callbacks"][key]["best_k_models"] = {path: torch.tensor(0.0)}
        torch.save(content, tmp_path / "forged.ckpt")
        folder = tmp_path / f"second_{len(path)}"
        fit(make_run(folder, "trainer.max_epochs=2"), tmp_path / "forged.ckpt")
        assert victim.is_dir()
        assert (folder / "last.ckpt").is_file()
