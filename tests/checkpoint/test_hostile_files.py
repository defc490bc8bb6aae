"""Files that try to run code when they are opened: every one is refused, and none has run anything."""

import json
import os
import pickle
import re
import tarfile
import zipfile
from copy import deepcopy
from typing import Any

import pytest
import torch
from checkpoint.conftest import HERE, command, refused

from swahr import Predictor, load_checkpoint
from swahr.build_data import build_data
from swahr.cli.command import compose_config
from swahr.decode import DarkWithScaleMap
from swahr.model.published import read_published

pytestmark = pytest.mark.usefixtures("witness")

GROUPS = (
    "model", "aggregate", "grouping", "decode", "evaluation", "data", "target", "loss", "trainer", "expected",
)  # fmt: skip
TARGETS = (
    "os.system",
    "subprocess.run",
    "builtins.eval",
    "posix.system",
    "torch.load",
    "lightning.pytorch.Trainer",
    "swahrr.decode.Dark",
    "swahr_evil.Dark",
    "swahr",
    ".swahr.decode.Dark",
    "os.system;swahr.decode.Dark",
    "${oc.env:HOME}",
    "",
    7,
    None,
    True,
    ["swahr.decode.Dark"],
    {"_target_": "os.system"},
)


@pytest.mark.parametrize("group", GROUPS)
def test_a_class_of_another_package_is_refused_in_every_group(group, description, written) -> None:
    description["config"][group] = command()
    refused(written(description), r"_target_=os\.system refused.*trust=\[os\]")


@pytest.mark.parametrize("group", GROUPS)
def test_also_nested_and_in_lists(group, description, written) -> None:
    description["config"][group] = {
        **(description["config"][group] or {}),
        "extra": [{"deep": [[command()]]}],
    }
    refused(written(description), rf"{group}\.extra\[0\]\.deep\[0\]\[0\]\._target_=os\.system refused")


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_whatever_is_not_the_name_of_one_of_our_classes_is_refused(
    target, description, present, written
) -> None:
    for values in (description, present):
        values["config"]["decode"]["refine"]["_target_"] = target
        refused(written(values))


@pytest.mark.parametrize("partial", [{}, {"_partial_": True}], ids=["called", "partial"])
@pytest.mark.parametrize(
    "target",
    [
        "swahr.provenance.subprocess.run",
        "swahr.provenance.subprocess",
        "swahr.files.os.system",
        "swahr.nodes.instantiate",
        "swahr.nodes.importlib.import_module",
        "swahr.files.Path",
        "swahr.synthetic.render_dataset",
        "swahr.cli.main.main",
    ],
)
def test_imports_and_functions_of_our_modules_are_not_our_classes(target, partial, present, written) -> None:
    present["config"]["decode"]["refine"] = {"_target_": target, **partial}
    path = written(present)
    load_checkpoint(path)  # which imports nothing yet
    with pytest.raises(ValueError, match=rf"_target_: {target}: (no such class|expected a class of swahr)"):
        Predictor.from_checkpoint(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("defaults", ["/data@hydra: from_checkpoint"]),
        ("_args_", ["touch $WITNESS"]),
        ("_recursive_", False),
        ("_convert_", "all"),
        ("value", "${oc.env:HOME}"),
        ("value", "${oc.decode:'{a: 1}'}"),
        ("value", "${now:%Y}"),
        ("value", "${hydra:runtime.cwd}"),
        ("value", "a ${model.x} and ${oc.env:${model.x}}"),
        ("value", r"\${oc.env:HOME}"),
        ("value", r"\\${oc.env:HOME}"),
        ("value", r"\${data.root}"),
        ("value", "$${data.root}{oc.env:HOME}"),
        ("value", "${data.root"),
        ("${data.root}", 1),
    ],
)
@pytest.mark.parametrize("group", ["data", "aggregate"])
def test_settings_of_hydra_are_refused(key, value, group, description, present, written) -> None:
    for values in (description, present):
        values["config"][group][key] = value
        refused(written(values))


@pytest.mark.parametrize(
    ("root", "augmentation"), [("$", "${data.root}{CALL}"), ("{CALL}", "$${data.root}")], ids=["sign", "call"]
)
def test_a_resolver_cannot_be_put_together(root, augmentation, present, written, tmp_path) -> None:
    """Values that refer to such pieces would call it when they are resolved for the second time."""
    call = f"oc.create:{{_target_: os.system, command: 'touch {tmp_path}/witness'}}"
    present["config"]["data"]["root"] = root.replace("CALL", call)
    present["config"]["data"]["module"]["augmentation"] = augmentation.replace("CALL", call)
    path = written(present)
    refused(path)
    with pytest.raises(ValueError, match="refused"):
        build_data(compose_config("evaluate", [f"checkpoint={path}"]))


def test_settings_of_the_data_are_resolved_once(untyped) -> None:
    config = compose_config("train", ["experiment=smoke"])
    config.data.module.batch_size = r"\${oc.env:WITNESS}"
    with pytest.raises(ValueError, match=r"batch_size='\$\{oc.env:WITNESS\}': expected an integer"):
        build_data(config)


@pytest.mark.parametrize(("group", "key"), [("decode", "refine._target_"), ("aggregate", "decode.refine")])
def test_a_key_with_dots_is_no_path(group, key, present, written) -> None:
    present["config"][group][key] = "swahr.files.os.system"
    with pytest.raises(ValueError, match=f"has no {re.escape(key)}"):
        Predictor.from_checkpoint(written(present))
    present["config"][group][key] = command()
    refused(written(present), rf"{group}\.{re.escape(key)}\._target_=os\.system refused")


def test_a_group_with_dots_is_no_path(present, written, tmp_path) -> None:
    ours = {"_target_": "swahr.files.os.system", "command": f"touch {tmp_path}/witness"}
    present["config"]["decode.refine"] = ours
    assert type(Predictor.from_checkpoint(written(present)).pipeline.decode.refine) is DarkWithScaleMap


def test_references_to_other_values_are_read(description, written) -> None:
    description["config"]["data"]["module"]["val"]["size"] = "${data.module.train.size}"
    load_checkpoint(written(description))


def test_a_trusted_package_is_read_and_no_other(description, written) -> None:
    description["config"]["decode"]["refine"] = {"method": "dark", "part": {"_target_": "mypackage.Part"}}
    path = written(description)
    refused(path)
    with pytest.raises(ValueError, match="refused"):
        load_checkpoint(path, trust=["mypack"])
    load_checkpoint(path, trust=["mypackage"])
    description["config"]["aggregate"]["x"] = command()
    with pytest.raises(ValueError, match=r"os\.system refused"):
        load_checkpoint(written(description), trust=["mypackage"])


class Payload:
    def __reduce__(self) -> Any:
        return (os.system, ("touch $WITNESS",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # of torch.load, before it refuses the file
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize("name", ["run.ckpt", "run.pth"])
def test_a_pickle_that_runs_a_command_is_refused(name, protocol, tmp_path, description) -> None:
    path = tmp_path / name
    torch.save({"state_dict": {}, "swahr": json.dumps(description), "x": Payload()}, path)
    refused(path, "not a readable checkpoint")
    path.write_bytes(pickle.dumps(Payload(), protocol))
    refused(path, "not a readable checkpoint")
    with pytest.raises(ValueError, match="damaged, or a pickle of more"):
        read_published(path)


def test_a_pickle_in_a_tar_archive_is_refused(tmp_path) -> None:
    (tmp_path / "pickle").write_bytes(pickle.dumps(Payload()))
    path = tmp_path / "run.ckpt"
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.add(tmp_path / "pickle", name)
    refused(path, "tar archive")
    with pytest.raises(ValueError, match="tar archive"):
        read_published(path)


def test_a_ckpt_is_checked_like_a_safetensors_file(tmp_path, description, weights) -> None:
    hostile = deepcopy(description)
    hostile["config"]["grouping"]["peaks"] = command()
    path = tmp_path / "run.ckpt"
    content = {f"network.{name}": tensor for name, tensor in weights.items()}
    torch.save({"state_dict": content, "swahr": json.dumps(hostile)}, path)
    assert zipfile.is_zipfile(path)
    refused(path)


def test_the_metadata_of_an_onnx_file_are_checked(tmp_path, description) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'swahr[onnx]'")
    description["config"]["decode"]["recover"] = command()
    model = onnx.load(HERE / "format_1.onnx")
    for entry in model.metadata_props:
        entry.value = json.dumps(description)
    path = tmp_path / "hostile.onnx"
    onnx.save(model, path)
    refused(path)


def test_weights_in_other_files_are_refused(tmp_path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'swahr[onnx]'")
    path = tmp_path / "hostile.onnx"
    model = onnx.load(HERE / "format_1.onnx")
    tensor = model.graph.initializer[0]
    tensor.data_location = tensor.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    path.write_bytes(model.SerializeToString())
    refused(path, "expected all weights inside the file")


@pytest.mark.parametrize("group", ["decode", "data", "grouping", "evaluation"])
def test_text_that_is_yaml_is_no_group(group, present, written, tmp_path) -> None:
    """Hydra reads text as YAML, in which nobody has looked for classes."""
    present["config"][group] = f"{{_target_: os.system, command: 'touch {tmp_path}/witness'}}"
    path = written(present)
    refused(path, rf"damaged \(.*{group}: expected a mapping")
    for name in ("evaluate", "predict", "export", "show"):
        with pytest.raises(ValueError, match=rf"damaged \(.*{group}: expected a mapping"):
            compose_config(name, [f"checkpoint={path}"])


def test_commands_refuse_them_too(description, written, tmp_path, capsys, monkeypatch) -> None:
    from swahr.cli.main import main

    description["config"]["decode"]["refine"] = command()
    path = written(description)
    for name, extra in (
        ("predict", ["inputs=x.png"]),
        ("evaluate", []),
        ("show", []),
        ("export", ["output=x.onnx"]),
    ):
        monkeypatch.setattr("sys.argv", ["swahr", name, f"checkpoint={path}", *extra])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit):
            main()
        assert "os.system refused" in capsys.readouterr().err
