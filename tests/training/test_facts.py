"""Values that the stages must agree on are set once and reach all of them."""

from pathlib import Path
from typing import Any

import pytest

from swahr import Predictor
from swahr.decode import Dark

OTHERS = ["targets=official", "targets.sigma=0.8"]


@pytest.mark.parametrize(
    ("overrides", "aligned", "sigma"),
    [
        ([], "centre", 2.0),
        (OTHERS, "official", 0.8),
        ([*OTHERS, "+aggregate.alignment=centre", "+decode.refine.sigma=1.5"], "centre", 1.5),
    ],
    ids=["defaults", "of the targets", "an explicit value wins"],
)
def test_convention_test_time_has_the_geometry_and_the_width_of_the_targets(
    make_run: Any, tmp_path: Path, overrides: list[str], aligned: str, sigma: float
) -> None:
    run = make_run(tmp_path / "run", *overrides, "trainer.max_steps=1", "training.callbacks.curves=null")
    run.trainer.fit(run.module, datamodule=run.data, weights_only=True)
    trained = Predictor.from_checkpoint(tmp_path / "run" / "last.ckpt", device="cpu").pipeline
    for pipeline in (run.module.pipeline, trained):
        assert pipeline.aggregate.alignment == aligned
        assert isinstance(pipeline.decode.refine, Dark)
        assert pipeline.decode.refine.sigma == sigma


def test_facts_of_the_skeleton_and_the_network_reach_constructors(make_run: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path, "data.skeleton=crowdpose")
    module, skeleton = run.module, run.data.skeleton
    assert skeleton.num_keypoints == 14
    assert module.network.heads[0]["heatmaps"].outputs == 14
    assert module.pipeline.aggregate.flip_permutation == list(skeleton.flip_permutation)
    assert module.pipeline.aggregate.size_multiple == module.network.size_multiple == 32
    assert module.pipeline.decode.skeleton == skeleton
    assert tuple(module.encode_targets.strides) == module.network.strides == (4, 2)


@pytest.mark.parametrize(
    ("loss", "heads"),
    [
        ("mse", {"heatmaps", "tags"}),
        ("sahr", {"heatmaps", "tags", "scale_maps"}),
        ("wahr_learned", {"heatmaps", "tags", "log_weight_maps"}),
    ],
)
def test_the_network_has_the_heads_that_its_loss_needs(
    make_run: Any, tmp_path: Path, loss: str, heads: set[str]
) -> None:
    run = make_run(tmp_path, f"loss={loss}")
    assert {*run.module.network.heads[0]} == heads
    assert {*run.module.network.heads[1]} == heads - {"tags"}
    assert run.module.criterion.needs | {"heatmaps"} == heads


def test_a_needed_map_without_a_head_is_an_error(make_run: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs the maps \['tags'\].*model\.heads\.tags\._target_="):
        make_run(tmp_path, "~model.heads.tags")
