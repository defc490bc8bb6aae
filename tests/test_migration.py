"""Earlier names of classes still name them, in configurations and in recorded results."""

import pytest

from swahr.backbones import EfficientNetLite
from swahr.build import build_network
from swahr.cli.command import compose_config
from swahr.migration import _MOVED, renamed
from swahr.nodes import instantiate, locate
from swahr.skeleton import COCO


@pytest.mark.parametrize(("earlier", "current"), _MOVED.items())
def test_earlier_names_are_those_of_the_same_classes(earlier: str, current: str) -> None:
    assert locate(earlier) is locate(current)
    assert earlier.rpartition(".")[2] == current.rpartition(".")[2]
    assert renamed(current) == current


def test_values_that_are_no_earlier_names_stay_as_they_are() -> None:
    tree = {"a": [1, None, "swahr.data"], "b": {"_target_": "swahr.decode.Dark", "c": 2.5}}
    assert renamed(tree) == tree
    assert renamed({"a": [{"_target_": "swahr.training.ExportBest"}]}) == {
        "a": [{"_target_": "swahr.runs.ExportBest"}]
    }


def test_nested_nodes_may_have_earlier_names() -> None:
    config = compose_config("train", ["model=lite", "model.backbone._target_=swahr.model.EfficientNetLite"])
    assert isinstance(build_network(config.model, COCO).backbone, EfficientNetLite)
    warmup = instantiate({"_target_": "swahr.training.Throughput", "warmup": 3}).warmup
    assert warmup == 3
