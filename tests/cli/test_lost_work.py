"""Whatever ends a run, what it found is on disk; whatever is wrong with one image costs that image."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from swahr.cli.evaluate import read_all
from swahr.decode import Decoder
from swahr.runs import drawings
from swahr.skeleton import COCO
from swahr.structures import Poses
from swahr.synthetic import SyntheticSource


def names(folder: Path) -> list[str]:
    """The images in ``poses.json``."""
    images = json.loads((folder / "poses.json").read_text())["images"]
    return [Path(image["file_name"]).name for image in images]


def journal(folder: Path, name: str = "poses.partial.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def wait_for_lines(process: subprocess.Popen[str], path: Path, count: int) -> None:
    deadline = time.monotonic() + 300
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_or_interrupted_prediction_leaves_what_it_found(checkpoint, photos, start, tmp_path, ended):
    for i in range(4, 600):
        (photos / f"{i}.png").hardlink_to(photos / f"{i % 4}.png")
    folder = tmp_path / "p"
    run = start(
        "predict", f"checkpoint={checkpoint}", "photos", f"output={folder}", "batch_size=2", cwd=tmp_path
    )
    wait_for_lines(run, folder / "poses.partial.jsonl", 5)
    run.send_signal(ended)
    stdout, stderr = run.communicate()
    lines = journal(folder)
    assert len(lines) >= 5
    assert [line["image"]["id"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(person["image_id"] == line["image"]["id"] for line in lines for person in line["annotations"])
    assert not (folder / "poses.json").exists()
    assert stdout == ""
    if ended == signal.SIGINT:
        assert run.returncode == 130
        assert "Traceback" not in stderr
        assert "swahr predict: interrupted\n" in stderr
        assert f"what was found so far is in {folder}/poses.partial.jsonl" in stderr
    else:
        assert run.returncode == -signal.SIGKILL


def test_a_journal_is_the_data_set_in_parts(swahr, checkpoint, photos, tmp_path, monkeypatch):
    command = ["predict", f"checkpoint={checkpoint}", photos]
    assert swahr(*command, f"output={tmp_path}/whole").code == 0
    whole = json.loads((tmp_path / "whole/poses.json").read_text())
    assert not (tmp_path / "whole/poses.partial.jsonl").exists()

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("swahr.cli.predict.write_json", fail)
    assert "No space left" in swahr(*command, f"output={tmp_path}/partial").error
    lines = journal(tmp_path / "partial")
    assert [line["image"] for line in lines] == whole["images"]
    people = [person for line in lines for person in line["annotations"]]
    assert [{**one, "id": i} for i, one in enumerate(people, start=1)] == whole["annotations"]


def test_bad_images_of_every_kind_cost_themselves_only(swahr, checkpoint, photos, tmp_path):
    (photos / "0_bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (30000).to_bytes(4) + (40000).to_bytes(4) + b"IEND\xaeB`\x82"
    )
    (photos / "1_phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    assert cv2.imwrite(str(photos / "2_long.png"), np.zeros((1, 10000, 3), np.uint8))
    (photos / "3_folder.jpg").mkdir()
    good = (photos / "3.png").read_bytes()
    (photos / f"{'n' * 251}.png").write_bytes(good)
    outcome = swahr("predict", f"checkpoint={checkpoint}", photos, f"output={tmp_path}/p")
    summary, *named = outcome.error.splitlines()
    assert summary.startswith("3 of 8 files skipped, 0 other problems")
    assert [line.split(": ")[0].rsplit("/")[-1] for line in named] == [
        "0_bomb.png", "1_phone.heic", "2_long.png",
    ]  # fmt: skip
    assert "at most 268,435,456 pixels, got 30000 x 40000" in named[0]
    assert "ftypheic" in named[1]
    assert "aggregate.max_input_pixels" in named[2]
    assert "passed over 1 subfolders (3_folder.jpg; " in outcome.stderr
    assert names(tmp_path / "p") == ["0.png", "1.png", "2.png", "3.png", "n" * 251 + ".png"]
    assert (tmp_path / f"p/pictures/{'n' * 240}.jpg").is_file()


def test_pictures_that_cannot_be_written_cost_no_poses(swahr, checkpoint, photos, tmp_path, monkeypatch):
    write_bytes = Path.write_bytes

    def full(path, data):
        if path.suffix == ".jpg":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    outcome = swahr("predict", f"checkpoint={checkpoint}", photos, f"output={tmp_path}/p")
    summary, *named = outcome.error.splitlines()
    assert summary.startswith("0 of 4 files skipped, 4 other problems")
    assert all("No space left on device" in line and "pictures/" in line for line in named)
    assert len(names(tmp_path / "p")) == 4


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs the right to mount a disk")
def test_a_full_disk(checkpoint, photos, start, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", disk], check=False).returncode:
        pytest.skip("needs the right to mount a disk")
    try:
        for i in range(4, 80):
            (photos / f"{i}.png").hardlink_to(photos / f"{i % 4}.png")
        run = start(
            "predict", f"checkpoint={checkpoint}", photos, f"output={disk}/p", "draw=false",
            "grouping.peaks.threshold=0", cwd=tmp_path,
        )  # fmt: skip
        stderr = run.communicate()[1]
        assert run.returncode == 1
        assert "cannot write (No space left on device); free space" in stderr
        assert "poses.partial.jsonl" in stderr
        found = len(journal(disk / "p"))
    finally:
        subprocess.run(["umount", disk], check=True)
    assert 0 < found < 80


def test_an_error_of_any_library_in_one_image(swahr, checkpoint, photos, tmp_path, monkeypatch):
    decode = Decoder.__call__

    def fails(self, maps):
        if len(maps.map_from_image) > 1 or seen.pop(0) == 1:
            raise KeyError("of a library")
        return decode(self, maps)

    seen = [0, 1, 2, 3]
    monkeypatch.setattr(Decoder, "__call__", fails)
    outcome = swahr("predict", f"checkpoint={checkpoint}", photos, f"output={tmp_path}/p")
    assert f"{photos}/1.png: KeyError: 'of a library'" in outcome.error
    assert names(tmp_path / "p") == ["0.png", "2.png", "3.png"]


def test_people_whose_scores_are_not_finite_are_named(swahr, checkpoint, photos, tmp_path, monkeypatch):
    decode = Decoder.__call__

    def with_nan(self, maps):
        found = decode(self, maps)
        found[2].score[0] = np.inf
        return found

    monkeypatch.setattr(Decoder, "__call__", with_nan)
    error = swahr("predict", f"checkpoint={checkpoint}", photos, f"output={tmp_path}/p").error
    assert "0 of 4 files skipped, 1 other problems" in error
    assert f"{photos}/2.png: 1 of " in error
    assert "not finite numbers" in error
    assert len(names(tmp_path / "p")) == 4


def test_an_interrupted_evaluation_leaves_its_results(swahr, checkpoint, coco_dataset, tmp_path, monkeypatch):
    data = ["data=custom", f"data.root={coco_dataset}", "data.module.workers=0"]
    command = ["evaluate", f"checkpoint={checkpoint}", *data, "grouping.peaks.threshold=-1"]
    assert swahr(*command, f"output={tmp_path}/whole").code == 0
    whole = json.loads((tmp_path / "whole/results.json").read_text())

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("swahr.cli.evaluate.write_results", interrupt)
    assert swahr(*command, f"output={tmp_path}/e").code == 130
    lines = journal(tmp_path / "e", "results.partial.jsonl")
    assert [line["image_id"] for line in lines] == [1, 2]
    assert [entry for line in lines for entry in line["results"]] == whole


def test_a_page_that_cannot_be_drawn_costs_no_metrics(swahr, checkpoint, coco_dataset, tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("swahr.cli.evaluate.prediction_page", fail)
    data = ["data=custom", f"data.root={coco_dataset}"]
    error = swahr("evaluate", f"checkpoint={checkpoint}", *data, f"output={tmp_path}/e").error
    assert "no page of pictures" in error
    assert "predictions.png: MemoryError" in error
    assert "AP" in json.loads((tmp_path / "e/metrics.json").read_text())["metrics"]


def test_the_figures_of_good_images_are_drawn(swahr, checkpoint, photos, tmp_path):
    (photos / "0.png").write_text("no image")
    outcome = swahr("show", f"checkpoint={checkpoint}", photos, f"output={tmp_path}/s")
    assert "1 of 4 files skipped" in outcome.error
    assert "0.png: expected an image that OpenCV decodes" in outcome.error
    assert len(list((tmp_path / "s").glob("*.png"))) == 3


class Fragile:
    """A source whose second image ends the worker, and whose fourth cannot be read."""

    def __init__(self):
        self.source = SyntheticSource(size=6, seed=0, image_size=(64, 64))
        self.process = os.getpid()

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        if index == 1 and os.getpid() != self.process:
            os._exit(1)
        if index == 3:
            raise ValueError("cannot read")
        return self.source[index]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_is_read_in_order_whatever_a_worker_does(workers, untyped):
    source = Fragile()
    read = list(read_all(source, batch_size=2, workers=workers))
    ids = [None if isinstance(image, ValueError) else image.image_id for image in read]
    assert ids == [source.source[i].image_id if i != 3 else None for i in range(6)]


def test_captions_have_the_name_of_the_file_only(monkeypatch, untyped):
    source = SyntheticSource(size=1, seed=0, image_size=(64, 64))
    image = source[0]
    poses = Poses(np.zeros((0, 17, 2)), np.zeros((0, 17)), np.zeros(0), np.zeros((0, 17), bool), COCO)
    monkeypatch.setattr(SyntheticSource, "describe", lambda *_: "a/long/path/street.jpg")
    monkeypatch.setattr(drawings, "contact_sheet", lambda images, titles: titles)
    (caption,) = drawings.prediction_page(source, [0], {image.image_id: poses})
    assert caption.startswith("street.jpg: 0 drawn of 0 found, ")
