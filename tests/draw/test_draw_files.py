"""Contact sheets, training curves and image files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from swahr.draw.curves import draw_curves, read_metrics
from swahr.draw.page import contact_sheet
from swahr.images import write_image

METRICS = """epoch,step,train/loss,train/heatmap_4,train/push,val/AP,val/AR,lr
0,4,2.0,1.5,0.0,,,0.1
0,9,1.0,0.7,0.1,,,0.1
0,9,,,,0.25,0.5,
1,14,0.5,0.3,0.0,,,0.1
1,19,,,,0.5,0.75,
"""


def plain(colour: tuple[int, int, int], height: int = 30, width: int = 40) -> np.ndarray:
    return np.broadcast_to(np.array(colour, dtype=np.uint8), (height, width, 3)).copy()


def test_a_sheet_holds_every_picture_with_its_exact_pixels() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    sheet = contact_sheet([plain((255, 0, 0)), noise], ["red", "noise"], columns=2, cell_size=(60, 80))
    assert (sheet == (255, 0, 0)).all(-1).sum() >= 60 * 80 * 0.95
    windows = np.lib.stride_tricks.sliding_window_view(sheet, noise.shape)[..., 0, :, :, :]
    assert (windows == noise).all((-1, -2, -3)).any()


def test_a_sheet_fills_rows_from_the_left() -> None:
    images = [plain((255, 0, 0)), plain((0, 255, 0)), plain((0, 0, 255))]
    sheet = contact_sheet(images, ["a", "b", "c"], columns=2, cell_size=(30, 40))
    red, green, blue = (np.argwhere((sheet == image[0, 0]).all(-1)).mean(0) for image in images)
    assert red[0] == green[0] < blue[0]
    assert red[1] == blue[1] < green[1]


def test_captions_and_footers_are_drawn_and_long_ones_are_cut() -> None:
    image = plain((255, 255, 255))
    bare, titled, longer = (
        contact_sheet([image], [title], cell_size=(60, 120))
        for title in ("", "a $title_ " * 9, "a $title_ " * 40)
    )
    assert (bare == 255).all()
    assert (titled < 128).any()
    assert longer.shape == titled.shape
    assert (contact_sheet([image], [""], cell_size=(60, 120), footer="commit") < 255).any()


def test_sheets_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([], [])
    with pytest.raises(ValueError, match="1 images, 2 titles"):
        contact_sheet([plain((0, 0, 0))], ["a", "b"])


def test_metrics_are_read_without_the_empty_cells(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS)
    series = read_metrics(tmp_path / "metrics.csv")
    steps, values = series["val/AP"]
    assert steps.tolist() == [9, 19]
    assert values.tolist() == [0.25, 0.5]
    assert series["train/loss"][1].tolist() == [2.0, 1.0, 0.5]


def test_curves_are_drawn_into_the_folder(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS)
    written = draw_curves(tmp_path / "metrics.csv", tmp_path / "figures", footer="commit")
    assert [path.name for path in written] == ["loss.png", "ap.png"]
    for path in written:
        picture = cv2.imread(str(path))
        assert picture.shape == (600, 1000, 3)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_metrics_without_people_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,val/AP,val/APM\n0,0.5,-1.0\n1,0.6,-1.0\n")
    with_medium = draw_curves(tmp_path / "metrics.csv", tmp_path / "a")[0].read_bytes()
    (tmp_path / "metrics.csv").write_text("step,val/AP\n0,0.5\n1,0.6\n")
    assert draw_curves(tmp_path / "metrics.csv", tmp_path / "b")[0].read_bytes() == with_medium


def test_curves_of_a_run_that_never_validated(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss\n0,0,0.0\n0,1,1.0\n")
    assert [path.name for path in draw_curves(tmp_path / "metrics.csv", tmp_path)] == ["loss.png"]


@pytest.mark.parametrize("content", ["", "epoch,step\n0,1\n", "a,b\n1,2\n"])
def test_files_without_metrics_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(ValueError, match=r"metrics\.csv"):
        draw_curves(tmp_path / "metrics.csv", tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        draw_curves(tmp_path / "nowhere.csv", tmp_path)


def test_written_images_read_back_as_they_were(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    path = write_image(tmp_path / "new" / "folder" / "picture.png", image)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], image)
    assert list(path.parent.iterdir()) == [path]
    jpeg = write_image(tmp_path / "picture.JPG", plain((200, 40, 90)))
    assert np.abs(cv2.imread(str(jpeg))[..., ::-1].astype(int) - (200, 40, 90)).max() < 8


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_image(tmp_path / "picture.png", plain((1, 2, 3)))
    before = path.read_bytes()

    def fail(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match=r"No space left.*picture\.png"):
        write_image(path, plain((9, 9, 9)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_bad_names_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"picture\.gif.*\.png"):
        write_image(tmp_path / "picture.gif", plain((0, 0, 0)))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="choose a folder you may write to"):
        write_image(tmp_path / "file" / "picture.png", plain((0, 0, 0)))
