"""Files that try to run code when they are opened: every one is refused, and none has run anything."""

import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from swahr import Predictor, load_checkpoint
from swahr.model.published import read_published

HERE = Path(__file__).parent
OLD = HERE / "format_1.safetensors"
GROUPS = ("model", "aggregate", "grouping", "decode", "evaluation", "data", "target", "loss", "trainer")
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
    ["swahr.decode.Dark"],
    {"_target_": "os.system"},
)


@pytest.fixture
def description() -> dict[str, Any]:
    with safe_open(OLD, framework="pt") as file:
        return json.loads(file.metadata()["swahr"])


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    with safe_open(OLD, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


@pytest.fixture
def written(tmp_path: Path, weights) -> Callable[[dict[str, Any]], Path]:
    """Writes a safetensors file with a description."""

    def write(values: dict[str, Any]) -> Path:
        path = tmp_path / "hostile.safetensors"
        save_file(weights, path, metadata={"swahr": json.dumps(values)})
        return path

    return write


@pytest.fixture(autouse=True)
def proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a hostile file might run would leave a file behind."""
    witness = tmp_path / "witness"
    monkeypatch.setenv("WITNESS", str(witness))
    yield
    assert not witness.exists()


def command() -> dict[str, Any]:
    return {"_target_": "os.system", "command": "touch $WITNESS"}


def refused(path: Path, match: str = "refused") -> None:
    with pytest.raises(ValueError, match=match):
        load_checkpoint(path)
    with pytest.raises(ValueError, match=match):
        Predictor.from_checkpoint(path)


@pytest.mark.parametrize("group", GROUPS)
def test_a_class_of_another_package_is_refused_in_every_group(group, description, written) -> None:
    description["config"][group] = command()
    refused(written(description), r"_target_=os\.system refused.*trust=\[os\]")


@pytest.mark.parametrize("group", GROUPS)
def test_also_nested_and_in_lists(group, description, written) -> None:
    description["config"][group]["extra"] = [{"deep": [[command()]]}]
    refused(written(description), rf"{group}\.extra\[0\]\.deep\[0\]\[0\]\._target_=os\.system refused")


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_whatever_is_not_the_name_of_one_of_our_classes_is_refused(target, description, written) -> None:
    description["config"]["decode"]["refine"]["_target_"] = target
    refused(written(description))


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
def test_imports_and_functions_of_our_modules_are_not_our_classes(target, description, written) -> None:
    checkpoint = load_checkpoint(written(description))
    checkpoint.config["decode"]["refine"] = {"_target_": target}
    with pytest.raises(ValueError, match=rf"_target_: {target}: (no such class|expected a class of swahr)"):
        Predictor.from_checkpoint(checkpoint)


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
    ],
)
@pytest.mark.parametrize("group", ["data", "aggregate"])
def test_settings_of_hydra_are_refused(key, value, group, description, written) -> None:
    description["config"][group][key] = value
    refused(written(description))


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


@pytest.mark.parametrize(
    "skeleton",
    [
        command(),
        {"keypoints": ["nose"], "name": command(), "_target_": "os.system"},
        {"keypoints": [command()], "limbs": [["nose", "nose"]]},
        {"keypoints": "os.system"},
        {"keypoints": ["nose"], "sigmas": [command()]},
        ["nose"],
        None,
    ],
    ids=str,
)
def test_a_skeleton_is_plain_names_and_numbers(skeleton, description, written) -> None:
    description["skeleton"] = skeleton
    refused(written(description), "keypoint|skeleton|damaged|unknown keys")


@pytest.mark.parametrize(
    "values", [[], "x", 3, {"config": []}, {"config": {}}, {"config": {"model": 3}, "format": 1}], ids=str
)
def test_a_malformed_description_is_reported_as_damaged(values, written) -> None:
    refused(written(values), "damaged")


@pytest.mark.parametrize("number", [0, 3, "2", -1, 2.5, None])
def test_formats_that_there_are_not_yet_are_refused(number, description, written) -> None:
    refused(written({**description, "format": number}), "format")


class Payload:
    def __reduce__(self) -> Any:
        return (os.system, ("touch $WITNESS",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
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
    description["config"]["decode"]["recover"] = command()
    model = onnx.load(HERE / "format_1.onnx")
    for entry in model.metadata_props:
        entry.value = json.dumps(description)
    path = tmp_path / "hostile.onnx"
    onnx.save(model, path)
    refused(path)


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
