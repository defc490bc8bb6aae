"""The metrics of real results do not depend on how tools spell ids, flags and encodings."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swahr.data import CocoSource
from swahr.evaluation import Evaluator, read_results

Entry = dict[str, Any]


@pytest.fixture(scope="module")
def annotations(shared_data: Path) -> Entry:
    content: Entry = json.loads((shared_data / "results/person_keypoints_val2014_first100.json").read_text())
    return content


@pytest.fixture(scope="module")
def results(shared_data: Path) -> list[Entry]:
    file = shared_data / "results/person_keypoints_val2014_fakekeypoints100_results.json"
    entries: list[Entry] = json.loads(file.read_text())
    return entries


def _metrics(folder: Path, annotations: bytes, results: bytes) -> dict[str, float]:
    (folder / "a.json").write_bytes(annotations)
    (folder / "r.json").write_bytes(results)
    source = CocoSource(folder / "a.json", folder)
    return Evaluator()(source.ground_truth(), read_results(folder / "r.json"), source.skeleton)


@pytest.fixture(scope="module")
def published(
    annotations: Entry, results: list[Entry], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, float]:
    folder = tmp_path_factory.mktemp("published")
    metrics = _metrics(folder, json.dumps(annotations).encode(), json.dumps(results).encode())
    assert metrics["AP"] == pytest.approx(0.372, abs=5e-4)
    return metrics


def _every_second(entries: list[Entry], keys: tuple[str, ...], spell: Callable[[int], Any]) -> list[Entry]:
    return [{**entry, **{key: spell(entry[key]) for key in keys if i % 2}} for i, entry in enumerate(entries)]


@pytest.mark.parametrize("spell", [str, float])
def test_ids_and_flags_in_other_spellings(
    annotations: Entry, results: list[Entry], published: dict[str, float], tmp_path: Path, spell: Any
) -> None:
    keys = ("id", "image_id", "category_id", "iscrowd", "num_keypoints")
    other = {
        **annotations,
        "images": _every_second(annotations["images"], ("id", "height", "width"), spell),
        "annotations": _every_second(annotations["annotations"], keys, spell),
    }
    found = _every_second(results, ("image_id", "category_id"), spell)
    metrics = _metrics(tmp_path, json.dumps(other).encode(), json.dumps(found).encode())
    assert metrics == pytest.approx(published, abs=1e-12)


def test_people_without_a_crowd_flag(
    annotations: Entry, results: list[Entry], published: dict[str, float], tmp_path: Path
) -> None:
    people = [{**entry, "iscrowd": entry["iscrowd"] or None} for entry in annotations["annotations"]]
    other = json.dumps({**annotations, "annotations": people}).encode()
    assert _metrics(tmp_path, other, json.dumps(results).encode()) == pytest.approx(published, abs=1e-12)


def test_unlabelled_people_without_keypoints(
    annotations: Entry, results: list[Entry], published: dict[str, float], tmp_path: Path
) -> None:
    unlabelled = {True: [], False: None}
    people = [
        entry if any(entry["keypoints"]) else {**entry, "keypoints": unlabelled[i % 2 == 0]}
        for i, entry in enumerate(annotations["annotations"])
    ]
    assert people != annotations["annotations"]
    other = json.dumps({**annotations, "annotations": people}).encode()
    assert _metrics(tmp_path, other, json.dumps(results).encode()) == pytest.approx(published, abs=1e-12)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_other_encodings(
    annotations: Entry,
    results: list[Entry],
    published: dict[str, float],
    tmp_path: Path,
    encoding: str,
    pack: Any,
) -> None:
    packed = [pack(json.dumps(content).encode(encoding)) for content in (annotations, results)]
    assert _metrics(tmp_path, *packed) == pytest.approx(published, abs=1e-12)
