"""The ablation's tables of differences between runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from scipy.stats import t

from ablation_parts.plan import Result


def not_compared(results: Sequence[Result], against: str) -> str:
    """The runs that have others of their seed, but no difference: the detections were not on that machine."""
    compared = {
        one[key]
        for run in results
        for one in run["differences"]
        if one["against"].rpartition("_")[0] == against
        for key in ("run", "against")
    }
    seeds = Counter(run["seed"] for run in results)
    return ", ".join(run["name"] for run in results if seeds[run["seed"]] > 1 and run["name"] not in compared)


def of_runs(results: Sequence[Result]) -> list[list[str]]:
    """Rows, with a header: one per difference of two runs of a seed."""
    names = ("AP", "AP50", "APM", "APL")
    rows = [["run", "minus", "test", *names]]
    for one in sorted((one for run in results for one in run["differences"]), key=lambda row: row["run"]):
        found = [one["metrics"].get(name) for name in names]
        cells = [
            f"{100 * value['value']:+.1f} ({100 * value['low']:+.1f} to {100 * value['high']:+.1f})"
            if value
            else "n/a"
            for value in found
        ]
        rows.append([f"`{one['run']}`", f"`{one['against']}`", one["test"], *cells])
    return rows


def over_seeds(results: Sequence[Result]) -> list[list[str]]:
    """Rows, with a header: one per variant, other and test, where there are several seeds."""
    rows = [["difference", "test", "seeds", "AP", "APM", "APL"]]
    found: dict[tuple[str, str, str], list[Result]] = {}
    for run in results:
        for one in run["differences"]:
            other = one["against"].removesuffix(f"_{run['seed']}")
            found.setdefault((run["variant"], other, one["test"]), []).append(one["metrics"])
    for (variant, other, test), metrics in found.items():
        cells = [_mean_difference([one.get(name) for one in metrics]) for name in ("AP", "APM", "APL")]
        if len(metrics) > 1:
            rows.append([f"`{variant}` - `{other}`", test, str(len(metrics)), *cells])
    return rows


def _mean_difference(found: Sequence[Mapping[str, float] | None]) -> str:
    """The mean over seeds, and its 95 % interval where there are several."""
    values = [100 * one["value"] for one in found if one]
    if len(values) < 2:
        return "n/a"
    mean = fmean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"
