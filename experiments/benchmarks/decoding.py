"""Decoding: as a whole, official-compatible and native, and step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from reference.decoding import decode as plain_decode

from benchmarks.crowd import crowd_maps
from benchmarks.measure import Action, Case
from benchmarks.memory import peak_bytes
from benchmarks.networks import coco_facts
from swahr.build import build_pipeline
from swahr.decode import Dark, Decoder
from swahr.grouping import OfficialGrouping
from swahr.skeleton import COCO
from swahr.structures import DenseMaps, Poses

_BATCH = 4


def decode_cases(config: DictConfig, people: Sequence[int], device: torch.device) -> Iterator[Case]:
    """Decoding one image's maps with ``config.official`` and with ``config.native``."""
    for name in ("official", "native"):
        decoder = build_pipeline(config[name], coco_facts(config)).decode
        for count in people:
            maps = decoded_maps(config, name, count, device)
            yield _whole(name, count, maps, decoder, with_plain=count <= config.plain_people)
            yield from _parts(name, count, maps, decoder)
            if count == config.plain_people:
                yield _batch(name, count, maps, decoder)


def decoded_maps(config: DictConfig, name: str, people: int, device: torch.device) -> DenseMaps:
    """Maps of a crowd, for the decoder ``config[name]`` and an input of ``config.decode_size``."""
    h, w = config.decode_size
    return crowd_maps(
        people,
        keypoints=COCO.num_keypoints,
        size=(h // 2, w // 2),
        project=config[name].aggregate.project,
        missing=config.missing,
        device=device,
        seed=config.seed,
    )


def _whole(name: str, people: int, maps: DenseMaps, decoder: Decoder, *, with_plain: bool) -> Case:
    variants: dict[str, Action] = {"ours": partial(decoder, maps)}
    if with_plain:
        variants["plain"] = partial(_plain_decode(decoder), maps.heatmaps[0], maps.tags[0])
    own = maps.heatmaps.nbytes + maps.tags.nbytes
    decoder(maps)
    peak = peak_bytes(variants["ours"], maps.heatmaps.device)
    notes = {} if peak is None else {"peak memory / maps": 1 + peak / own}
    return Case("decode", f"{name}, {_size(maps)}", people, variants, _compare_poses, notes)


def _plain_decode(decoder: Decoder) -> Callable[..., Any]:
    peaks, group = decoder.extract_peaks, decoder.group
    return partial(
        plain_decode,
        order=COCO.grouping_indices,
        rule="official" if isinstance(group, OfficialGrouping) else "gated",
        plateaus=peaks.plateaus,
        max_people=peaks.max_people,
        threshold=peaks.threshold,
        method="dark" if isinstance(decoder.refine, Dark) else "quarter",
    )


def _compare_poses(ours: list[Poses], slow: tuple[Any, Any]) -> None:
    (poses,), (expected, scores) = ours, slow
    assert len(poses) == len(expected), f"{len(poses)} people, expected {len(expected)}"
    np.testing.assert_allclose(poses.scores, expected[..., 2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(poses.score, scores, rtol=0, atol=1e-6)
    found = poses.present
    np.testing.assert_allclose(poses.keypoints[found], expected[found][:, :2], rtol=0, atol=2e-3)


def _batch(name: str, people: int, maps: DenseMaps, decoder: Decoder) -> Case:
    """Four images in one call; the plain version decodes one image at a time."""
    four = DenseMaps(
        {
            "heatmaps": torch.cat([maps.heatmaps.roll(i, dims=-1) for i in range(_BATCH)]),
            "tags": torch.cat([maps.tags.roll(i, dims=-2) for i in range(_BATCH)]),
        },
        map_from_image=maps.map_from_image * _BATCH,
    )
    alone = [
        DenseMaps({name: own[i : i + 1] for name, own in four.fields.items()}, maps.map_from_image)
        for i in range(_BATCH)
    ]
    variants: dict[str, Action] = {
        "ours": partial(decoder, four),
        "plain": lambda: [decoder(one)[0] for one in alone],
    }
    return Case("decode", f"{name}, {_size(maps)}, {_BATCH} images", people, variants, _compare_alone)


def _compare_alone(ours: list[Poses], single: list[Poses]) -> None:
    for found, expected in zip(ours, single, strict=True):
        for field in ("keypoints", "scores", "score", "present"):
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


def _parts(name: str, people: int, maps: DenseMaps, decoder: Decoder) -> Iterator[Case]:
    """Each step by itself, on the results of the steps before it."""
    peaks = decoder.extract_peaks(maps)
    (groups,) = decoder.group(peaks)
    own = maps.of_image(0)
    refined = decoder.refine(groups, own)
    steps: dict[str, Action] = {
        "peaks": partial(decoder.extract_peaks, maps),
        "grouping": partial(decoder.group, peaks),
        f"refinement ({type(decoder.refine).__name__})": partial(decoder.refine, groups, own),
    }
    if decoder.recover is not None:
        steps["recovery"] = partial(decoder.recover, refined, own)
    for step, action in steps.items():
        yield Case("decode steps", f"{name}, {_size(maps)}: {step}", people, {"ours": action})


def _size(maps: DenseMaps) -> str:
    h, w = maps.heatmaps.shape[2:]
    return f"{h}x{w}"
