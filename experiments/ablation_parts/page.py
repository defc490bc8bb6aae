"""The ablation's tables, from the files of finished runs only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from ablation_parts import differences
from ablation_parts.plan import Result


class Words(NamedTuple):
    """The words of a plan's tables.

    Attributes:
        row: what the variants are, e.g. ``loss``.
        column: what the ``decodings`` are, e.g. ``decoding``.
        chosen: the decoding shown in all tables but that of decodings.
        against: the variant from which others differ.
    """

    row: str
    column: str
    chosen: str
    against: str


_BY_SIZE = (("coco", "APM"), ("coco", "APL"))
_OF_PEOPLE = ("PCKh", "AP_visible", "AP_occluded", "implausible", "implausible_annotated")
_BY_CROWDING = tuple(("crowdpose", f"AP_{name}") for name in ("easy", "medium", "hard"))
_BINS = [f"{i / 10:.1f}" for i in range(10)]


def tables(
    results: Sequence[Result],
    missing: Sequence[str],
    words: Words,
    command: str,
    chosen: Sequence[str] | None = None,
) -> str:
    """Tables, each with the command that makes it, and a line with the runs' provenance.

    Args:
        results: the files' contents, in the order of the plan.
        missing: names of runs without a file.
        words: the plan's words.
        command: makes these tables.
        chosen: names of the tables; None: all, and whether all runs are finished.

    Raises:
        ValueError: there is no table of a name.
    """
    state = f"Missing runs: {', '.join(missing)}." if missing else "No run is missing."
    if single := differences.not_compared(results, words.against):
        state += f" Not compared with `{words.against}` of the same seed: {single}."
    if not results:
        return f"{state}\n"
    below = f"`{command}`, from {counted(len(results), 'run')}."
    parts = _all_tables(results, words)
    if unknown := [name for name in chosen or () if name not in parts]:
        raise ValueError(f"tables: expected some of {', '.join(parts)}, got {', '.join(unknown)}")
    shown = [
        f"### {title}\n\n{_table(rows)}\n\n{below}\n"
        for title, rows in (parts[name] for name in chosen or parts)
        if len(rows) > 1
    ]
    lines = [_origins(results), *([state] if missing or chosen is None else [])]
    return "\n".join([*shown, *(f"{line}\n" for line in lines)])


def _all_tables(results: Sequence[Result], words: Words) -> dict[str, tuple[str, list[list[str]]]]:
    """Title and rows of every table."""
    return {
        "main": (
            f"AP, {words.column} `{words.chosen}`, mean ± standard deviation over seeds",
            _main(results, words),
        ),
        "ways": (f"AP by {words.column}", _decodings(results, words)),
        "sizes": ("AP by person size and crowding", _parts(results, words)),
        "people": (
            f"PCKh, AP of visible and of occluded keypoints, shares of implausible poses, by {words.column}",
            _of_people(results, words),
        ),
        "differences": (
            "Differences in AP, with 95 % intervals (paired bootstrap over images)",
            differences.of_runs(results),
        ),
        "seeds": (
            "Their means over seeds, with 95 % intervals (Student's t)",
            differences.over_seeds(results),
        ),
        "scale_maps": (
            "Rank correlation of the scale map's width s with person size",
            _correlations(results),
        ),
        "calibration": (
            "Similarity to the true keypoint (its part of OKS) by score from … on",
            _calibration(results, words),
        ),
        "shares": (
            "Shares of the loss in five consecutive parts of the training; `foreground_…`: of a heatmap "
            "term, where the target is positive",
            _shares(results, words),
        ),
    }


def _origins(results: Sequence[Result]) -> str:
    """Where runs were trained and tested, with what."""
    trained: dict[str, list[str]] = {}
    tested: dict[str, set[str]] = {}
    for result in results:
        stamp = result["stamp"]
        trained.setdefault(stamp.get("trained_on", stamp["device"]), []).append(result["name"])
        machine = f"{stamp['device']}, torch {stamp['libraries']['torch']}"
        tested.setdefault(machine, set()).add(str(stamp["commit"]))
    lines = [f"Training ended on {device}: {', '.join(names)}." for device, names in trained.items()]
    lines += [f"Tested on {machine}, {_commits(names)}." for machine, names in tested.items()]
    return " ".join(lines)


def _commits(names: Collection[str]) -> str:
    return f"commit{'' if len(names) == 1 else 's'} {', '.join(sorted(names))}"


def counted(number: int, noun: str) -> str:
    """E.g. ``1 run`` or ``3 runs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def by_variant(results: Iterable[Result]) -> dict[str, list[Result]]:
    """The runs of each variant."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result["variant"], []).append(result)
    return found


def _spread(values: Iterable[float | None], factor: float = 100, digits: int = 1) -> str:
    """Mean and standard deviation; those that are undefined (-1 in AP, or None) are left out."""
    defined = [factor * value for value in values if value is not None and (value >= 0 or factor == 1)]
    if not defined:
        return "n/a"
    return f"{fmean(defined):z.{digits}f}" + (f" ± {stdev(defined):.{digits}f}" if len(defined) > 1 else "")


def _metric(runs: Sequence[Result], test: str, decoding: str, protocol: str, name: str) -> str:
    found = [run["tests"][test]["metrics"].get(decoding, {}).get(protocol, {}).get(name) for run in runs]
    return _spread(found)


def _main(results: Sequence[Result], words: Words) -> list[list[str]]:
    names = ("AP", "AP50", "AR")
    tests = list(results[0]["tests"])
    header = [words.row, "seeds", "parameters", *(f"{test} {name}" for test in tests for name in names)]
    rows = [
        [f"`{variant}`", str(len(runs)), f"{runs[0]['parameters'] / 1e6:.2f} M"]
        + [_metric(runs, test, words.chosen, "coco", name) for test in tests for name in names]
        for variant, runs in by_variant(results).items()
    ]
    return [header, *rows]


def _decodings(results: Sequence[Result], words: Words) -> list[list[str]]:
    columns = [
        (test, decoding)
        for test in results[0]["tests"]
        for decoding in dict.fromkeys(name for run in results for name in run["tests"][test]["metrics"])
    ]
    rows = [
        [f"`{variant}`", *(_metric(runs, *column, "coco", "AP") for column in columns)]
        for variant, runs in by_variant(results).items()
    ]
    return [[words.row, *(f"{test} `{decoding}`" for test, decoding in columns)], *rows]


def _parts(results: Sequence[Result], words: Words) -> list[list[str]]:
    protocols = {name for test in results[0]["tests"].values() for name in test["metrics"][words.chosen]}
    columns = [column for column in (*_BY_SIZE, *_BY_CROWDING) if column[0] in protocols]
    rows = [
        [f"`{variant}`", test, *(_metric(runs, test, words.chosen, *column) for column in columns)]
        for variant, runs in by_variant(results).items()
        for test in runs[0]["tests"]
    ]
    return [[words.row, "test", *(name for _, name in columns)], *rows]


def _of_people(results: Sequence[Result], words: Words) -> list[list[str]]:
    """In percent."""
    rows = [[words.row, "test", words.column, *(name.replace("_", ", ") for name in _OF_PEOPLE)]]
    for variant, runs in by_variant(results).items():
        for test, ways in runs[0]["tests"].items():
            for way in (way for way, protocols in ways["metrics"].items() if "people" in protocols):
                cells = [_metric(runs, test, way, "people", name) for name in _OF_PEOPLE]
                rows.append([f"`{variant}`", test, f"`{way}`", *cells])
    return rows


def with_scale_maps(results: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
    """What was measured of the scale maps, by variant and test set."""
    found = {
        (variant, test): [run["tests"][test]["scale_map"] for run in runs]
        for variant, runs in by_variant(results).items()
        for test in runs[0]["tests"]
    }
    return {key: values for key, values in found.items() if all(values)}


def _correlations(results: Sequence[Result]) -> list[list[str]]:
    measured = with_scale_maps(results)
    keypoints = list(next(iter(measured.values()))[0]["rank_correlation"]) if measured else []
    rows = [
        [name]
        + [
            _spread([one["rank_correlation"][name]["rho"] for one in values], 1, 2)
            for values in measured.values()
        ]
        for name in keypoints
    ]
    return [["keypoint", *(f"`{variant}`, {test}" for variant, test in measured)], *rows]


def _calibration(results: Sequence[Result], words: Words) -> list[list[str]]:
    rows = [[words.row, "test", *_BINS]]
    for variant, runs in by_variant(results).items():
        for test in runs[0]["tests"]:
            bins = [row for run in runs for row in run["tests"][test]["calibration"]]
            cells = [_weighted([row for row in bins if f"{row['from']:.1f}" == start]) for start in _BINS]
            rows.append([f"`{variant}`", test, *cells])
    return rows


def _weighted(bins: Sequence[Mapping[str, float]]) -> str:
    """The mean similarity over keypoints, and their number."""
    total = sum(row["keypoints"] for row in bins)
    mean = sum(row["similarity"] * row["keypoints"] for row in bins)
    return f"{mean / total:.2f} ({total:.0f})" if total else "n/a"


def _shares(results: Sequence[Result], words: Words) -> list[list[str]]:
    rows = [[words.row, "term", "1", "2", "3", "4", "5"]]
    for variant, runs in by_variant(results).items():
        parts = [run["loss_shares"] for run in runs if len(run["loss_shares"]) == 5]
        for term in parts[0][0] if parts else ():
            if term != "step":
                shares = [_spread([own[i][term] for own in parts]) for i in range(5)]
                rows.append([f"`{variant}`", f"`{term}`", *(f"{share} %" for share in shares)])
    return rows


def picture_of(page: Path, plan: str) -> Path:
    """Where the figure of a plan is, beside its page."""
    return page.parent / "images" / f"{plan}.png"
