"""Every kind of image file is read; every kind of damage is reported."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from swahr.images import check_image, read_image


def _write(path: Path, image: np.ndarray, *options: int) -> Path:
    assert cv2.imwrite(str(path), image, options)
    return path


def _gradient(height: int = 37, width: int = 53) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x, 2 * y, x + y], axis=-1).astype(np.uint8)


def _segment(marker: int, payload: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(payload) + 2) + payload


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    tiff = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return jpeg[:2] + _segment(0xE1, b"Exif\x00\x00" + tiff) + jpeg[2:]


def _png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_convention_rgb(tmp_path: Path) -> None:
    red = np.zeros((4, 5, 3), dtype=np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    assert (read_image(_write(tmp_path / "red.png", red)) == (255, 0, 0)).all()


def test_grey_jpeg(tmp_path: Path) -> None:
    image = read_image(_write(tmp_path / "grey.jpg", np.full((21, 33), 90, dtype=np.uint8)))
    assert image.shape == (21, 33, 3)
    assert np.ptp(image) == 0


def test_alpha_is_dropped(tmp_path: Path) -> None:
    image = np.dstack([_gradient(), np.zeros((37, 53), dtype=np.uint8)])
    np.testing.assert_array_equal(read_image(_write(tmp_path / "alpha.png", image)), _gradient()[..., ::-1])


def test_sixteen_bit(tmp_path: Path) -> None:
    image = _gradient().astype(np.uint16) * 256 + 17
    np.testing.assert_array_equal(read_image(_write(tmp_path / "deep.png", image)), _gradient()[..., ::-1])


def test_palette(tmp_path: Path) -> None:
    palette = b"\x0a\x14\x1e\xc8\xd2\xdc"
    plte = struct.pack(">I", 6) + b"PLTE" + palette + struct.pack(">I", zlib.crc32(b"PLTE" + palette))
    path = tmp_path / "palette.png"
    path.write_bytes(_png(2, 1, 8, 3, b"\x00\x00\x01", plte))
    np.testing.assert_array_equal(read_image(path), [[(10, 20, 30), (200, 210, 220)]])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (1001, 3)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    for suffix in ("png", "jpg"):
        assert read_image(_write(tmp_path / f"odd.{suffix}", _gradient(*size))).shape == (*size, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path: Path, orientation: int) -> None:
    image = np.zeros((20, 40, 3), dtype=np.uint8)
    image[:10, :10] = 255  # a mark at the top left of the stored pixels
    path = tmp_path / "photo.jpg"
    path.write_bytes(_with_orientation(_write(path, image).read_bytes(), orientation))
    corner = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    upright, stored = read_image(path), read_image(path, apply_orientation=False)
    assert stored.shape == (20, 40, 3)
    assert stored[3, 3].min() > 200
    assert upright.shape == ((20, 40, 3) if orientation < 5 else (40, 20, 3))
    row, column = corner[orientation]
    assert upright[-4 if row else 3, -4 if column else 3].min() > 200
    assert upright[3 if row else -4, 3 if column else -4].max() < 50


def test_name_that_is_not_ascii(tmp_path: Path) -> None:
    path = tmp_path / "smørrebrød 人.png"
    path.write_bytes(_write(tmp_path / "a.png", _gradient()).read_bytes())
    assert read_image(path).shape == (37, 53, 3)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.7, 0.99])
def test_truncated_jpeg(tmp_path: Path, progressive: int, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    path = _write(tmp_path / "cut.jpg", noise, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"cut\.jpg: expected a whole image.*fetch it again"):
        read_image(path)


def test_the_end_of_a_thumbnail_is_not_the_end(tmp_path: Path) -> None:
    path = _write(tmp_path / "thumb.jpg", _gradient())
    data = path.read_bytes()
    with_thumbnail = data[:2] + _segment(0xE1, b"Exif\x00\x00" + data) + data[2:]
    path.write_bytes(with_thumbnail)
    whole = read_image(path)
    assert whole.shape == (37, 53, 3)
    path.write_bytes(with_thumbnail[:-20])
    with pytest.raises(ValueError, match="breaks off"):
        read_image(path)


def test_jpeg_with_fill_bytes_and_a_tail(tmp_path: Path) -> None:
    path = _write(tmp_path / "tail.jpg", _gradient())
    data = path.read_bytes()
    expected = read_image(path)
    path.write_bytes(data[:2] + b"\xff" + _segment(0xFE, b"comment") + data[2:] + b"second picture")
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("kept", [-1, -6, -40, 60, 12])
def test_truncated_png(tmp_path: Path, kept: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    path = _write(tmp_path / "cut.png", noise)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"cut\.png: expected a whole image"):
        read_image(path)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(ValueError, match=r"empty\.jpg: .*after 0 bytes"):
        read_image(path)


def test_file_that_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "page.jpg"
    path.write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"page\.jpg: expected an image that OpenCV decodes.*<html>"):
        read_image(path)


def test_missing_file_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.jpg: .*none\.jpg does not exist; check"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(FileNotFoundError, match=r"absent/none\.jpg: .*absent does not exist; check"):
        read_image(tmp_path / "absent" / "none.jpg")


def _headers(width: int, height: int) -> dict[str, bytes]:
    """Files whose headers promise a size that nothing follows."""
    frame = _segment(0xC0, struct.pack(">BHHB", 8, height, width, 0)) + _segment(0xDA, b"") + b"\xff\xd9"
    return {
        "png": _png(width, height, 8, 2, b""),
        "jpg": b"\xff\xd8" + _segment(0xE0, b"JFIF") + frame,
        "gif": b"GIF89a" + struct.pack("<HH", width, height),
        "bmp": b"BM" + bytes(16) + struct.pack("<ii", width, -height),
    }


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp"])
def test_more_pixels_than_the_limit_are_refused_before_decoding(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    path = tmp_path / f"bomb.{suffix}"
    path.write_bytes(_headers(30001, 40000)[suffix])
    expected = rf"bomb\.{suffix}: expected at most 268,435,456 pixels, got 30001 x -?40000; shrink"
    with pytest.raises(ValueError, match=expected):
        read_image(path)


def test_other_formats_are_checked_after_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "large.tiff", _gradient())
    assert read_image(path).shape == (37, 53, 3)
    monkeypatch.setattr("swahr.images.MAX_PIXELS", 37 * 53 - 1)
    with pytest.raises(ValueError, match=r"large\.tiff: expected at most 1,960 pixels, got 53 x 37"):
        read_image(path)


def test_errors_of_opencv_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swahr.images.MAX_PIXELS", 2**40)
    path = tmp_path / "bomb.png"
    path.write_bytes(_png(30001, 40000, 8, 2, b""))  # more than OpenCV's own limit
    with pytest.raises(ValueError, match=r"bomb\.png: OpenCV cannot decode the image \(.*\); shrink or"):
        read_image(path)


def test_the_first_image_of_an_animation(tmp_path: Path) -> None:
    if not cv2.haveImageWriter("x.gif"):
        pytest.skip("needs an OpenCV that writes GIFs")
    assert read_image(_write(tmp_path / "still.gif", _gradient())).shape == (37, 53, 3)


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        (np.zeros((4, 5), np.uint8), r"np\.stack"),
        (np.zeros((4, 5, 4), np.uint8), "alpha"),
        (np.zeros((3, 4, 5), np.uint8), "transpose"),
        (np.zeros((4, 5, 3), np.float32), r"255 \* image"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((2, 4, 5, 3), np.uint8), "one by one"),
        (np.zeros((4, 5, 3), np.int64), "read_image"),
    ],
)
def test_arrays_that_are_no_image_come_with_a_remedy(image: np.ndarray, remedy: str, untyped: None) -> None:
    with pytest.raises(ValueError, match=rf"expected an RGB image of shape .*{remedy}"):
        check_image(image)
