"""Errors of any kind, help, and readers that stop reading."""

from pathlib import Path

import pytest


def test_an_error_that_is_not_ours_is_one_line_and_a_file(swahr, checkpoint, photos, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("of a\nlibrary")

    monkeypatch.setattr("swahr.cli.predict.poses_as_dataset", fail)
    command = ["predict", f"checkpoint={checkpoint}", photos]
    error = swahr(*command, f"output={tmp_path}/p").error
    file = tmp_path / "p/traceback.log"
    assert error == f"ZeroDivisionError: of a library (traceback: {file})\n"
    assert "Traceback" in file.read_text()
    monkeypatch.setattr("swahr.cli.command.load_checkpoint", fail)
    error = swahr(*command, f"output={tmp_path}/q").error  # before there is a folder
    saved = Path(error.partition("(traceback: ")[2].rstrip(")\n"))
    assert "Traceback" in saved.read_text()
    saved.unlink()
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ZeroDivisionError):
        swahr(*command, f"output={tmp_path}/r")


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["train", "--cfg", "job"]])
def test_a_reader_that_has_seen_enough(start, arguments, tmp_path):
    run = start(*arguments, cwd=tmp_path)
    run.stdout.close()
    stderr = run.stderr.read()
    run.stderr.close()
    assert (run.wait(), stderr) == (141, "")


def test_help_lists_the_groups_of_the_command(swahr):
    def groups(command):
        listed = swahr(command, "--help").stdout.partition("(group=option)")[2].partition("==")[0]
        return {line.partition(":")[0] for line in listed.split() if line.endswith(":")}

    assert groups("predict") == {"aggregate", "grouping", "decode", "second_stage", "postprocess"}
    assert groups("evaluate") == groups("predict") | {"data", "evaluation"}
    assert groups("render") == {"data"}
    assert {"experiment", "loss", "trainer"} <= groups("train")
