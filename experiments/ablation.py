"""Trains one network per loss and seed, and tests all of them on the same images.

``conf/ablation.yaml`` (rendered crowds) and other plans beside it list the runs. Each
finished run leaves a small file in ``results``, to be committed, and is not run again on any machine. One
that was cut off is resumed from its checkpoint. ``page`` makes tables and a figure from these files.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from ablation_parts.analysis import difference
from ablation_parts.figure import draw_results
from ablation_parts.page import Words, counted, picture_of, tables
from ablation_parts.people import FIRST, run_people_tests
from ablation_parts.plan import Run, finished, resolved, runs_of
from ablation_parts.testing import Detections, parameters, run_tests
from ablation_parts.training import (
    check_folder,
    learning_curve,
    logs,
    loss_shares,
    resumable,
    steps,
    train,
    trained,
)
from omegaconf import DictConfig
from stamped import with_table

from swahr.choices import check_setting
from swahr.cli.command import report, run_command
from swahr.cli.problems import raise_problems
from swahr.evaluation.results import read_results
from swahr.files import read_json, write_json
from swahr.images import write_image
from swahr.provenance import provenance

_log = logging.getLogger(__name__)


def ablation(config: DictConfig) -> None:
    """Do what is missing.

    Raises:
        ValueError: the configuration is wrong, a file in ``results`` or ``output`` has another one, or runs
            failed; the others are finished then.
    """
    check_setting("beside", config.beside, int)
    if config.beside < 1:
        raise ValueError(f"beside={config.beside}: expected 1 or more trainings at a time; correct it")
    every = runs_of(config)
    runs = [run for run in every if config.only is None or run.name in config.only]
    states = _states(runs)
    if config.page is not None:
        _write_page(Path(config.page), config, [finished(run) for run in runs], states)
        return
    if config.dry:
        report(states | {"hours": _hours(runs)})
        return
    if len(states["done"]) < len(runs):
        _check_files(config)
    for number in (signal.SIGINT, signal.SIGTERM):  # shells start background jobs with Ctrl-C ignored
        signal.signal(number, signal.default_int_handler)
    failures: list[str] = []
    missing = [run for run in runs if run.name not in states["done"]]
    try:
        for start in range(0, len(missing), config.beside):
            failures += _train_and_test(missing[start : start + config.beside], config, every)
    except KeyboardInterrupt:
        _log.warning("interrupted; the same command goes on where this one ended")
        raise SystemExit(130) from None
    summary = f"{len(failures)} of {len(runs)} runs failed"
    raise_problems(failures, summary=summary, folder=Path(config.results))
    report(_states(runs))


def _check_files(config: DictConfig) -> None:
    if config.data_root is None:
        raise ValueError("data_root: expected the folder of the data, got none; add data_root=PATH")
    if config.first is not None and not Path(config.first).is_file():
        raise ValueError(
            f"first={config.first}: expected a bottom-up network behind which the others are tested, but "
            "there is no file; train it (python experiments/ablation.py only=[swahr_0]), or name another one"
        )


def _states(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The names of the runs that are done, resumable and missing; errors as in `finished`."""
    states: dict[str, list[str]] = {"done": [], "resumable": [], "missing": []}
    for run in runs:
        if finished(run) is not None:
            states["done"].append(run.name)
            continue
        check_folder(run)
        states["resumable" if trained(run) or resumable(run) else "missing"].append(run.name)
    return states


def _hours(runs: Sequence[Run]) -> float | None:
    """Hours to train what is not done, from the start, at the mean speed so far; None if unknown."""
    results = [finished(run) for run in runs]
    times = [
        one["images"] / one["images_per_second"] / 3600
        for one in results
        if one is not None and one["images_per_second"]
    ]
    return round(sum(times) / len(times) * results.count(None), 2) if times else None


def _train_and_test(runs: Sequence[Run], config: DictConfig, every: Sequence[Run]) -> list[str]:
    """Train runs beside each other, and test each; returns what failed."""
    failures = train(runs)
    for run in runs:
        if (folder := trained(run)) is not None:
            try:
                _test(run, folder, config, every)
            except (OSError, RuntimeError, TypeError, ValueError) as error:
                failures[run.name] = str(error)
    messages = [f"{name}: {reason}" for name, reason in failures.items()]
    for message in messages:
        _log.error(message)
    return messages


def _test(run: Run, folder: Path, config: DictConfig, runs: Sequence[Run]) -> None:
    """Test a trained network, and write the result."""
    training, rows = read_json(folder / "result.json"), logs(run)
    checkpoint = folder / "best.safetensors"
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint}: expected weights, but no validation had an AP; train longer")
    _log.info("%s: testing", run.name)
    choices = resolved(config, {})
    test = run_tests if config.first is None else run_people_tests
    tested = test(checkpoint, run.tests, choices, run.folder)
    files = [value for test in run.tests.values() for value in test.values() if Path(str(value)).is_file()]
    files += [checkpoint, *(test.file for test in tested.values())]
    files += [value for value in choices.get("anatomy", {}).values() if Path(str(value)).is_file()]
    trained = training["stamp"]
    write_json(
        run.result,
        {
            "name": run.name,
            "variant": run.variant,
            "seed": run.seed,
            "parameters": parameters(checkpoint),
            "images": steps(folder) * _images_per_step(run.recorded["config"]),
            "images_per_second": training.get("images_per_second"),
            "curve": learning_curve(rows),
            "loss_shares": loss_shares(rows),
            "tests": {name: test.report for name, test in tested.items()},
            "differences": _differences(run, tested, config, runs),
            **({} if config.first is None else {"first": _sha256(config.first)}),
            **run.recorded,
            "stamp": provenance(seed=run.seed, files=files)
            | {
                "trained_by": trained["commit"],
                "trained_on": trained["device"],
                "trained_with": trained["sha256"],
            },
        },
    )


def _sha256(file: str) -> str:
    return provenance(seed=None, files=[file])["sha256"][Path(file).name]


def _images_per_step(config: Mapping[str, Any]) -> int:
    factors = ("data.module.batch_size", "trainer.devices", "trainer.accumulate_grad_batches")
    values = [config[f"train.{key}"] for key in factors]
    return prod(value for value in values if isinstance(value, int))


def _differences(
    run: Run, tested: Mapping[str, Detections], config: DictConfig, runs: Sequence[Run]
) -> list[dict[str, Any]]:
    """Differences from the first stage, and from the plain variant where this seed's detections are here."""
    is_plain = run.variant == config.against
    found = [
        {
            "run": run.name,
            "against": FIRST,
            "test": name,
            "metrics": difference(test.truth, test.results, test.first, test.skeleton, config.resamples),
        }
        for name, test in tested.items()
        if test.first is not None
    ]
    for other in runs:
        if other.seed != run.seed or other is run or not (is_plain or other.variant == config.against):
            continue
        for name, test in tested.items():
            if (theirs := _results(other, test.file.name)) is not None:
                first, second = (theirs, test.results) if is_plain else (test.results, theirs)
                names = (
                    {"run": other.name, "against": run.name}
                    if is_plain
                    else {"run": run.name, "against": other.name}
                )
                metrics = difference(test.truth, first, second, test.skeleton, config.resamples)
                found.append({**names, "test": name, "metrics": metrics})
    return found


def _results(run: Run, name: str) -> list[dict[str, Any]] | None:
    """The detections of a finished run if they are here, as its result states them."""
    result, file = finished(run), run.folder / name
    if result is None or not file.is_file():
        return None
    stated, here = result["stamp"]["sha256"].get(name), provenance(seed=None, files=[file])["sha256"][name]
    if stated != here:
        _log.warning("%s: not the detections of %s, so no difference from them", file, run.result)
        return None
    return read_results(file)


def _write_page(
    page: Path, config: DictConfig, found: Sequence[dict[str, Any] | None], states: Mapping[str, list[str]]
) -> None:
    """Replace the plan's tables in a page, and, if they are all shown, draw its figure."""
    results, name = [result for result in found if result is not None], Path(config.results).name
    option = "" if name == "ablation" else f"--config-name={name} "
    command = f"python experiments/ablation.py {option}page={page.as_posix()}"
    if config.tables is not None:
        command += f" tables=[{','.join(config.tables)}]"
    missing = [*states["resumable"], *states["missing"]]
    _check_same_files(config.results, results)
    words = Words(config.rows, config.columns, config.decoding, config.against)
    text = tables(results, missing, words, command, config.tables)
    if results and config.tables is None:
        picture, commits = picture_of(page, name), {str(result["stamp"]["commit"]) for result in results}
        footer = f"commit {', '.join(sorted(commits))}, {counted(len(results), 'run')}"
        write_image(picture, draw_results(results, next(iter(results[0]["tests"])), footer))
        shown = f"![Learning curves{', and scale maps against person size' if config.first is None else ''}]"
        shown += f"(images/{picture.name})"
        text += f"\n{shown}\n\n`{command}`\n"
    page.write_text(with_table(page.read_text("utf-8"), name, text, page), encoding="utf-8")
    report({"page": str(page), "runs": len(results), "missing": missing})


def _check_same_files(folder: str, results: Sequence[dict[str, Any]]) -> None:
    """Raise ValueError unless all results are of the same bottom-up network and the same training files."""
    if len(firsts := {result["first"] for result in results if "first" in result}) > 1:
        raise ValueError(
            f"{folder}: expected one bottom-up network before all others, got results with "
            f"{len(firsts)}; test the runs again with the same first=…"
        )
    known: dict[str, tuple[str, str]] = {}
    for result in results:
        for name, digest in result["stamp"].get("trained_with", {}).items():
            other, expected = known.setdefault(name, (result["name"], digest))
            if digest != expected:
                raise ValueError(
                    f"{folder}: {other} and {result['name']} were trained with different files {name}; train "
                    "one of them again with the other's"
                )


def main() -> None:
    """Run the plan that ``--config-name`` names."""
    option = "--config-name="
    names = [word.removeprefix(option) for word in sys.argv if word.startswith(option)]
    sys.argv = [word for word in sys.argv if not word.startswith(option)]
    run_command([*names, "ablation"][0], ablation, resumes=True)


if __name__ == "__main__":
    main()
