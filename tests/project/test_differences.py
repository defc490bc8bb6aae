"""The page of differences names a test for each, and every test it names is there."""

import re
from pathlib import Path

NAMED = re.compile(r"`(tests/[\w/]+\.py|…)::(\w+)`")


def test_every_difference_names_tests_that_exist(repository: Path) -> None:
    page = (repository / "docs" / "differences.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| official")]
    assert len(rows) >= 25
    for row in rows:
        named = NAMED.findall(row)
        assert named, row
        file = ""
        for place, name in named:
            file = file if place == "…" else place
            assert f"def {name}(" in (repository / file).read_text(encoding="utf-8"), (file, name)
