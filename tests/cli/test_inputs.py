import pytest

from swahr.cli.inputs import expand_inputs, inputs_as_override


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
