"""What the documentation names exists: make targets, commands, their settings, files; its Python compiles."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from swahr.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
    if path.is_file()
)


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, *languages: str) -> list[str]:
    """Fenced code blocks of some languages."""
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text(page), flags=re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def command_lines(page: str) -> list[str]:
    """Lines of the shell blocks, continuation lines joined, comments and prompts dropped."""
    joined = "\n".join(blocks(page, "bash", "sh", "console", "shell")).replace("\\\n", " ")
    return [line for raw in joined.splitlines() if (line := raw.split(" #")[0].strip().removeprefix("$ "))]


def swahr_commands(page: str) -> list[list[str]]:
    words = [shlex.split(line, comments=True) for line in command_lines(page)]
    return [line[1:] for line in words if line and line[0] == "swahr" and len(line) > 1]


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    inline = re.findall(r"`make ([a-z]+)", text(page))
    in_blocks = [line.split()[1] for line in command_lines(page) if re.match(r"make [a-z]+$", line)]
    assert {*inline, *in_blocks} <= targets


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    inline = re.findall(r"`swahr ([a-z-]+)", text(page))
    in_blocks = [words[0] for words in swahr_commands(page) if not words[0].startswith("-")]
    assert {*inline, *in_blocks} <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_settings_of_training_commands_exist(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests" / "extending")  # where a package that extends ours lies
    for command, *arguments in swahr_commands(page):
        settings = [word for word in arguments if "=" in word and "…" not in word]
        # A sweep's first choice stands for all.
        overrides = [re.sub(r"^([^=]+=[^,\[{]*),.*", r"\1", word) for word in settings]
        if command == "train":
            with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
                compose("train", overrides)


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_compile(page: str) -> None:
    for code in blocks(page, "python", "py"):
        compile(code, page, "exec")


@pytest.mark.parametrize("page", PAGES)
def test_links_point_to_files_that_exist(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", text(page))
    local = {link for pair in links for link in pair if link and not re.match(r"[a-z]+:", link)}
    assert {link for link in local if not ((ROOT / page).parent / link).exists()} == set()


@pytest.mark.parametrize("page", PAGES)
def test_files_and_folders_named_in_the_text_exist(page: str) -> None:
    named = set(re.findall(r"`((?:swahr|conf|tests|experiments|notebooks|docs)/[\w./-]*)`", text(page)))
    assert {name for name in named if not (ROOT / name).exists()} == set()
