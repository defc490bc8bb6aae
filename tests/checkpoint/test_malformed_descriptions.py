"""Descriptions of wrong types: reported in one message, and nothing in them is ever called."""

import json

import pytest
from checkpoint.conftest import HERE, command, refused

from swahr import Predictor
from swahr.cli.command import compose_config
from swahr.migration import FORMAT

pytestmark = pytest.mark.usefixtures("witness", "untyped")

GROUPS = ("model", "targets", "aggregate", "grouping", "decode", "postprocess", "evaluation", "data")


@pytest.mark.parametrize(
    ("skeleton", "message"),
    [
        (command(), r"unknown keys \['_target_', 'command'\]"),
        ({"keypoints": ["nose"], "name": command(), "_target_": "os.system"}, r"unknown keys \['_target_'\]"),
        ({"keypoints": [command()]}, r"expected a list 'keypoints' of names, got \[\{'_target_'"),
        ({"keypoints": "os.system"}, r"expected a list 'keypoints' of names, got 'os\.system'"),
        ({"keypoints": ["nose"], "limbs": [[command()] * 2]}, r"expected a list 'limbs' of pairs of names"),
        ({"keypoints": ["nose"], "sigmas": [command()]}, r"expected a list 'sigmas' of numbers from 0 to 1"),
        (["nose"], r"unknown keys \['nose'\]"),
        (None, r"damaged \(TypeError\(.'NoneType' object is not iterable"),
    ],
    ids=str,
)
def test_a_skeleton_is_plain_names_and_numbers(skeleton, message, description, written) -> None:
    description["skeleton"] = skeleton
    refused(written(description), message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "list indices must be integers"),
        ("x", "Expecting value"),
        ('"x"', "string indices must be integers"),
        (3, "'int' object is not subscriptable"),
        ({"config": []}, "'list' object has no attribute 'items'"),
        ({"config": {}}, r"KeyError\('model'\)"),
        ({"config": {"model": 3}, "format": 1}, r"KeyError\('loss'\)"),
        ({"config": {"model": {}}, "format": FORMAT}, r"KeyError\('skeleton'\)"),
        ({"config": "x", "format": FORMAT}, "'str' object has no attribute 'items'"),
    ],
    ids=str,
)
def test_a_malformed_description_is_reported_as_damaged(values, message, written) -> None:
    refused(written(values), rf"the description inside is damaged \(.*{message}")


@pytest.mark.parametrize("number", [0, FORMAT + 1, "2", -1, 2.5, None])
def test_formats_that_there_are_not_yet_are_refused(number, description, written) -> None:
    message = rf"expected a checkpoint of format 1 to {FORMAT}, got {number!r}"
    refused(written({**description, "format": number}), message)


@pytest.mark.parametrize("value", ["x", [], None, 3], ids=repr)
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_that_is_no_mapping_is_reported_as_damaged(group, value, present, written) -> None:
    present["config"][group] = value
    refused(written(present), rf"damaged \(.*{group}: expected a mapping")


def test_without_a_network_it_is_damaged(present, written) -> None:
    del present["config"]["model"]
    refused(written(present), r"damaged \(KeyError\('model'\)\)")


@pytest.mark.parametrize("node", ["x", [], {}, 3], ids=repr)
@pytest.mark.parametrize("path", ["grouping.peaks", "grouping.rule", "model", "aggregate", "decode"])
def test_a_component_that_is_no_node_is_refused(path, node, present, written) -> None:
    tree = {"config": present["config"]}
    *parents, last = ("config", *path.split("."))
    for name in parents:
        tree = tree[name]
    tree[last] = node
    with pytest.raises(ValueError, match=r"expected a (node|mapping)"):
        Predictor.from_checkpoint(written(present))


@pytest.mark.parametrize("expected", ["x", [], 3], ids=repr)
def test_an_expected_result_is_a_mapping_or_absent(expected, present, written) -> None:
    present["config"]["expected"] = expected
    refused(written(present), r"damaged \(.*expected: expected a mapping")


def test_an_expected_result_is_not_called(present, written, tmp_path) -> None:
    ours = {"_target_": "swahr.files.os.system", "command": f"touch {tmp_path}/witness"}
    present["config"]["expected"] = {**ours, "AP": command()}
    refused(written(present), r"expected\.AP\._target_=os\.system refused")
    del present["config"]["expected"]["AP"]
    path = written(present)
    assert compose_config("evaluate", [f"checkpoint={path}"]).checkpoint == str(path)


def test_facts_are_not_called_and_pass_nothing_else_on(present, written, tmp_path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'swahr[onnx]'")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'swahr[onnx]'")
    hostile = {name: command() for name in ("node", "sigma", "refine", "extract_peaks", "skeleton", "steps")}
    model, path = onnx.load(HERE / f"format_{FORMAT}.onnx"), tmp_path / "hostile.onnx"
    values = json.loads({entry.key: entry.value for entry in model.metadata_props}["swahr"])
    for facts in ({**values["facts"], **hostile}, "x", [], None, 3):
        for entry in model.metadata_props:
            entry.value = json.dumps({**values, "facts": facts})
        onnx.save(model, path)
        if isinstance(facts, dict):
            pipeline = Predictor.from_checkpoint(path, backend="onnxruntime").pipeline
            assert pipeline.decode.refine.sigma == values["config"]["targets"]["sigma"]
        else:
            refused(path, r"damaged \(.*facts: expected a mapping")


@pytest.mark.parametrize("depth", [60, 900, 2000, 100_000])
@pytest.mark.parametrize("brackets", [('{"a":', "}"), ("[", "]")], ids=["mappings", "lists"])
def test_deeply_nested_values_are_refused(depth, brackets, present, written) -> None:
    present["config"]["decode"]["x"] = "HERE"
    opening, closing = brackets
    text = json.dumps(present).replace('"HERE"', f"{opening * depth}1{closing * depth}")
    refused(written(text), "damaged|nested at most")
