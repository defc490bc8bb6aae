import logging
from pathlib import Path

import pytest

from swahr.cli.inputs import expand_inputs, inputs_as_override, picture_names


def test_files_without_equals_sign_become_one_override():
    arguments = ["model=m.safetensors", "a b.jpg", "photos/", "it's.png"]
    assert inputs_as_override(arguments) == [
        "model=m.safetensors",
        r"inputs=['a b.jpg','photos/','it\'s.png']",
    ]
    assert inputs_as_override(["model=x"]) == ["model=x"]


def test_files_folders_and_globs_are_expanded_once_each(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt"):
        (tmp_path / name).touch()
    both = [tmp_path / "a.PNG", tmp_path / "b.jpg"]
    assert expand_inputs(str(tmp_path)) == both
    assert expand_inputs([str(tmp_path / "*.jpg"), str(tmp_path)]) == [both[1], both[0]]


def test_nothing_found_is_an_error_that_names_the_input(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        expand_inputs([str(tmp_path / "nothing-here*.jpg")])


def test_folders_yield_images_of_every_format_and_say_what_they_pass_over(tmp_path, caplog):
    names = ["a.heic", "b.AVIF", "c.gif", "d.jp2", "e.jpg", "notes.txt", "sub.jpg/f.png", "more/g.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        assert [file.name for file in expand_inputs(str(tmp_path))] == [
            "a.heic", "b.AVIF", "c.gif", "d.jp2", "e.jpg",
        ]  # fmt: skip
    (message,) = caplog.messages
    assert f"passed over 2 subfolders (more, sub.jpg; '{tmp_path}/**' includes their images)" in message
    assert "1 files without an image's ending" in message
    with_subfolders = {file.relative_to(tmp_path).as_posix() for file in expand_inputs(f"{tmp_path}/**")}
    assert with_subfolders == set(names) - {"notes.txt"}
    assert expand_inputs(f"{tmp_path}/*.txt") == [tmp_path / "notes.txt"]
    (tmp_path / "outer/inner").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"found no image, but 1 subfolders \(inner; .*outer/\*\*'"):
        expand_inputs(str(tmp_path / "outer"))


def test_names_of_pictures_fit_the_file_system_and_differ():
    long = ["x" * 251, "x" * 250 + "y", "ü" * 125, "a", "b/a", "A"]
    names = list(picture_names([Path(f"{name}.jpg") for name in long]).values())
    assert names == ["x" * 240, "x" * 240 + "_2", "ü" * 120, "a", "a_2", "A_3"]
    assert max(len(f"{name}.jpg".encode()) for name in names) <= 255


def test_arguments_too_long_for_a_file():
    assert inputs_as_override([f"a={'x' * 5000}"]) == [f"a={'x' * 5000}"]
