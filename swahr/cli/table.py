"""``swahr table``: one table of any runs."""

import argparse
import csv
import io
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from textwrap import shorten

from swahr.cli.command import or_fail, report
from swahr.cli.run_results import RunResult, find_runs, is_fraction
from swahr.files import whole_file

_LATEX: dict[str, str | int | None] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"} | {"±": r"$\pm$"}
_MARKDOWN: dict[str, str | int | None] = {"|": r"\|", "*": r"\*", "<": "&lt;"}
_DESCRIPTION = """One table of any runs of `swahr train` (by their best validation) and `swahr evaluate`.
A row is a group of runs that differ only in their seed. It has the settings in which rows differ, the
number of seeds, mean and sample standard deviation of the metrics, and why runs failed.
"""
_EXAMPLES = """examples:
  swahr table runs/sweep                                   a sweep over loss and seed, in Markdown
  swahr table runs/a runs/b/metrics.json --format latex --metrics AP,AP50 --output table.tex
"""


@dataclass(frozen=True)
class Row:
    """Runs that differ only in their seed; ``repeated`` if these seeds are in another row as well."""

    runs: tuple[RunResult, ...]
    repeated: bool = False

    @property
    def finished(self) -> list[RunResult]:
        """The runs that have results."""
        return [run for run in self.runs if run.failure is None]

    def shown(self, key: str) -> str:
        """The value of a setting as text; ``run`` is where the runs are."""
        values = [str(run.path) if key == "run" else run.settings.shown(key) for run in self.runs]
        return ", ".join(dict.fromkeys(values))

    def values(self, metric: str) -> list[float]:
        """A metric of all finished runs; empty if one of them has none."""
        values = [run.metrics[metric] for run in self.finished if metric in run.metrics]
        return values if len(values) == len(self.finished) else []

    def failures(self) -> str:
        """Why runs have no result."""
        failed = [(run.seed, run.failure) for run in self.runs if run.failure is not None]
        return "; ".join(f"seed {seed}: {shorten(reason, 120, placeholder=' …')}" for seed, reason in failed)


def table() -> None:
    """Write a table of runs to stdout or a file."""
    parser = argparse.ArgumentParser(
        prog="swahr table",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "run folders, folders of runs (sweeps), result.json, metrics.json"
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=text)
    text = "default: markdown; AP and AR are in percent, in csv they are fractions"
    parser.add_argument("--format", choices=tuple(_FORMATS), default="markdown", help=text)
    parser.add_argument("--metrics", help="names separated by commas; default: all that begin with AP")
    parser.add_argument("--output", type=Path, help="a file for the table instead of stdout; it is replaced")
    or_fail("table", lambda: _write(parser.parse_args()))


def _write(arguments: argparse.Namespace) -> None:
    runs = find_runs(arguments.paths)
    rows = _rows(runs)
    metrics = _metrics(runs, arguments.metrics)
    notes, fractions = _warnings(runs, rows, metrics), arguments.format == "csv"
    sys.stderr.writelines(f"{note}\n" for note in notes)
    unit = "are fractions" if fractions else "in percent"
    notes.append(f"Metrics are means and sample standard deviations over seeds, AP and AR {unit}.")
    if commits := dict.fromkeys(run.commit for run in runs if run.commit):
        notes.append(f"Commit: {', '.join(commits)}.")
    content = _FORMATS[arguments.format](_cells(rows, metrics, fractions=fractions), notes)
    if arguments.output is None:
        sys.stdout.write(content)
        return
    with whole_file(arguments.output) as partial:
        partial.write_text(content, encoding="utf-8")
    failed = sum(run.failure is not None for run in runs)
    report({"output": str(arguments.output), "rows": len(rows), "runs": len(runs), "failed": failed})


def _rows(runs: Iterable[RunResult]) -> list[Row]:
    """Runs by settings; a seed that occurs again begins another row."""
    groups: dict[tuple[str, int], list[RunResult]] = defaultdict(list)
    for run in runs:
        values = run.settings.values
        key, repeat = json.dumps(values or str(run.path), sort_keys=True, default=str), 0
        while run.failure is None and run.seed in [r.seed for r in groups[key, repeat] if r.failure is None]:
            repeat += 1
        groups[key, repeat].append(run)
    return [Row(tuple(group), repeat > 0) for (_, repeat), group in groups.items() if group]


def _metrics(runs: Sequence[RunResult], given: str | None) -> list[str]:
    found = list(dict.fromkeys(metric for run in runs for metric in run.metrics))
    if given is None:
        return [metric for metric in found if metric.startswith("AP")]
    names = [name.strip() for name in given.split(",")]
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"--metrics: expected names among {', '.join(found)}, got {missing[0]!r}; correct it"
        )
    return names


def _columns(rows: Sequence[Row]) -> list[str]:
    """The settings in which rows differ: on command lines; if these do not suffice, others, or the path."""
    columns: dict[str, list[str]] = {}
    settings = [run.settings for row in rows for run in row.runs]
    overridden = [key for one in settings for key in one.overridden]
    for keys in (overridden, [key for one in settings for key in one.values], ["run"]):
        alike: dict[tuple[str, ...], list[int]] = defaultdict(list)  # rows that have equal columns so far
        for i in range(len(rows)):
            alike[tuple(column[i] for column in columns.values())].append(i)
        for key in dict.fromkeys(keys):
            column = [row.shown(key) for row in rows]
            tells_apart = any(len({column[i] for i in same}) > 1 for same in alike.values())
            tested = key.removeprefix("trained.")
            if tells_apart and (tested == key or column != [row.shown(tested) for row in rows]):
                columns[key] = column
    return list(columns)


def _cells(rows: Sequence[Row], metrics: Sequence[str], *, fractions: bool) -> list[list[str]]:
    """The header and the rows as text."""
    columns, failed = _columns(rows), ["failed"] * any(row.failures() for row in rows)
    names = [name for metric in metrics for name in ([metric, f"{metric}_std"] if fractions else [metric])]
    number = _exact if fractions else _rounded
    return [
        [*columns, "seeds", *names, *failed],
        *(
            [
                *map(row.shown, columns),
                str(len(row.finished)),
                *(text for metric in metrics for text in number(metric, row.values(metric))),
                *(row.failures() for _ in failed),
            ]
            for row in rows
        ),
    ]


def _exact(_: str, values: list[float]) -> list[str]:
    return [repr(fmean(values)) if values else "", repr(stdev(values)) if len(values) > 1 else ""]


def _rounded(metric: str, values: list[float]) -> list[str]:
    scaled = [100 * value if is_fraction(metric) else value for value in values]
    digits = ".2f" if is_fraction(metric) else ".4g"
    spread = f" ± {stdev(scaled):{digits}}" if len(values) > 1 else ""
    return [f"{fmean(scaled):{digits}}{spread}" if values else "n/a"]


def _warnings(runs: Sequence[RunResult], rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """What a reader must know before rows are compared."""
    warnings = []
    tested = Counter(run.data or "unknown" for run in runs if run.failure is None)
    if len(tested) > 1:
        listed = "; ".join(f"{count} x {data}" for data, count in tested.items())
        warnings.append(f"Warning: test data differ, so that metrics cannot be compared ({listed}).")
    if any(row.repeated for row in rows):
        places = ", ".join(str(run.path) for row in rows if row.repeated for run in row.finished)
        warnings.append(f"Warning: a seed of the same settings occurs again, in a row of its own ({places}).")
    partly = [m for m in metrics if any(m in run.metrics and not r.values(m) for r in rows for run in r.runs)]
    if partly:
        names = ", ".join(partly)
        warnings.append(f"Warning: {names}: n/a where only some runs of a row have a value.")
    return warnings


def _markdown(cells: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    header, *rows = [[cell.translate(str.maketrans(_MARKDOWN)) for cell in row] for row in cells]
    lines = [f"| {' | '.join(row)} |" for row in (header, *rows)]
    lines.insert(1, "|" + "---|" * len(header))
    return "\n".join(lines) + "\n" + "".join(f"\n{note}\n" for note in notes)


def _csv(cells: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue() + "".join(f"# {note}\n" for note in notes)


def _latex(cells: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    escape = str.maketrans(_LATEX)
    header, *rows = [" & ".join(cell.translate(escape) for cell in row) + r" \\" for row in cells]
    lines = [f"\\begin{{tabular}}{{{'l' * len(cells[0])}}}", r"\hline", header, r"\hline", *rows, r"\hline"]
    under = [f"\\par {note.translate(escape)}" for note in notes]
    return "\n".join([*lines, r"\end{tabular}", *under]) + "\n"


_FORMATS = {"markdown": _markdown, "csv": _csv, "latex": _latex}
