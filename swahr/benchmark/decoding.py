"""What decoding costs: all of it, official-compatible and native, and its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from swahr.benchmark.crowd import crowd_maps
from swahr.benchmark.measure import Action, Case
from swahr.benchmark.memory import peak_bytes
from swahr.benchmark.plain import load_plain
from swahr.build import build_pipeline
from swahr.skeleton import COCO
from swahr.structures import DenseMaps, Poses

_BATCH = 4


def decode_cases(config: DictConfig, people: Sequence[int], device: torch.device) -> Iterator[Case]:
    """Decoding one image's maps with ``config.official`` and with ``config.native``."""
    h, w = config.decode_size
    for name in ("official", "native"):
        decoder = build_pipeline(config[name], COCO).decode
        for count in people:
            maps = crowd_maps(
                count,
                keypoints=COCO.num_keypoints,
                size=(h // 2, w // 2),
                project=config[name].aggregate.project,
                missing=config.missing,
                device=device,
                seed=config.seed,
            )
            yield _whole(name, count, maps, decoder, with_plain=count <= config.plain_people)
            yield from _parts(name, count, maps, decoder)
            if count == config.plain_people:
                yield _batch(name, count, maps, decoder)


def _whole(name: str, people: int, maps: DenseMaps, decoder: Any, *, with_plain: bool) -> Case:
    variants: dict[str, Action] = {"ours": partial(decoder, maps)}
    if with_plain:
        variants["plain"] = partial(_plain_decode(decoder), maps.heatmaps[0], maps.tags[0])
    own = maps.heatmaps.nbytes + maps.tags.nbytes
    decoder(maps)
    peak = peak_bytes(variants["ours"], maps.heatmaps.device)
    notes = {} if peak is None else {"peak memory / maps": 1 + peak / own}
    return Case("decode", f"{name}, {_size(maps)}", people, variants, _compare_poses, notes)


def _plain_decode(decoder: Any) -> Callable[..., Any]:
    peaks, group = decoder.extract_peaks, decoder.group
    return partial(
        load_plain("decode").decode,
        order=COCO.grouping_indices,
        rule=group.rule,
        plateaus=peaks.plateaus,
        max_people=peaks.max_people,
        threshold=peaks.threshold,
        method=decoder.refine.method,
    )


def _compare_poses(ours: list[Poses], plain: tuple[Any, Any]) -> None:
    (poses,), (expected, scores) = ours, plain
    assert len(poses) == len(expected), f"{len(poses)} people, expected {len(expected)}"
    np.testing.assert_allclose(poses.scores, expected[..., 2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(poses.score, scores, rtol=0, atol=1e-6)
    found = poses.present
    np.testing.assert_allclose(poses.keypoints[found], expected[found][:, :2], rtol=0, atol=2e-3)


def _batch(name: str, people: int, maps: DenseMaps, decoder: Any) -> Case:
    """Four images in one call; the plain way is one at a time."""
    four = DenseMaps(
        heatmaps=torch.cat([maps.heatmaps.roll(i, dims=-1) for i in range(_BATCH)]),
        tags=torch.cat([maps.tags.roll(i, dims=-2) for i in range(_BATCH)]),
        scales=None,
        map_from_image=maps.map_from_image * _BATCH,
    )
    alone = [
        DenseMaps(heatmaps[None], tags[None], None, maps.map_from_image)
        for heatmaps, tags in zip(four.heatmaps, four.tags, strict=True)
    ]
    variants: dict[str, Action] = {
        "ours": partial(decoder, four),
        "plain": lambda: [decoder(one)[0] for one in alone],
    }
    return Case("decode", f"{name}, {_size(maps)}, {_BATCH} images", people, variants, _compare_alone)


def _compare_alone(ours: list[Poses], plain: list[Poses]) -> None:
    for found, expected in zip(ours, plain, strict=True):
        for field in ("keypoints", "scores", "score", "present"):
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


def _parts(name: str, people: int, maps: DenseMaps, decoder: Any) -> Iterator[Case]:
    """Each step by itself, on what the steps before it found."""
    peaks = decoder.extract_peaks(maps)
    (groups,) = decoder.group(peaks)
    heatmaps, tags = maps.heatmaps[0], maps.tags[0]
    refined = decoder.refine(groups, heatmaps, None)
    steps: dict[str, Action] = {
        "peaks": partial(decoder.extract_peaks, maps),
        "grouping": partial(decoder.group, peaks),
        decoder.refine.method: partial(decoder.refine, groups, heatmaps, None),
        "recovery": partial(decoder.recover, refined, heatmaps, tags),
    }
    for step, action in steps.items():
        yield Case("decode steps", f"{name}, {_size(maps)}: {step}", people, {"ours": action})


def _size(maps: DenseMaps) -> str:
    h, w = maps.heatmaps.shape[2:]
    return f"{h}x{w}"
