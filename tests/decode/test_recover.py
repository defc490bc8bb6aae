"""Recovery of missing keypoints."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.recovery import best_pixel

from swahr.decode import KeypointRecovery, recover
from swahr.decode.recover import best_of_all
from swahr.kernels.recovery import best_pixels
from swahr.structures import Groups, ImageMaps


def nobody_but(tag: float, keypoints: int = 2) -> Groups:
    """One person with the first keypoint at (4.25, 4.75) and the others missing."""
    groups = Groups(
        positions=np.zeros((1, keypoints, 2)),
        scores=np.zeros((1, keypoints)),
        present=np.zeros((1, keypoints), dtype=bool),
        tag=np.array([[tag]]),
    )
    groups.positions[0, 0], groups.scores[0, 0], groups.present[0, 0] = (4.25, 4.75), 0.9, True
    return groups


def maps_of(heatmaps: torch.Tensor, tags: torch.Tensor) -> ImageMaps:
    return ImageMaps({"heatmaps": heatmaps, "tags": tags})


def two_pixels() -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoint 1 is hot at pixel (x, y) = (2, 3) with tag 0, and less so at (8, 9) with tag 5."""
    heatmaps, tags = torch.zeros(2, 12, 14), torch.full((2, 12, 14, 1), 20.0)
    heatmaps[1, 3, 2], tags[1, 3, 2, 0] = 0.8, 0.0
    heatmaps[1, 9, 8], heatmaps[1, 9, 9], tags[1, 9, 8, 0] = 0.3, 0.1, 5.0
    return heatmaps, tags


@pytest.mark.parametrize(
    ("tag", "position", "score"),
    [(0.2, (2.25, 3.25), 0.8), (5.4, (8.75, 9.25), 0.3), (4.6, (8.75, 9.25), 0.3)],
)
def test_the_tag_decides_between_pixels(tag: float, position: tuple[float, float], score: float):
    groups = KeypointRecovery()(nobody_but(tag), maps_of(*two_pixels()))
    assert groups.present.all()
    assert groups.positions[0, 1].tolist() == list(position)
    assert groups.scores[0, 1] == pytest.approx(score)


def test_found_keypoints_stay_and_the_input_is_not_written_to():
    before = nobody_but(0.0)
    after = KeypointRecovery()(before, maps_of(*two_pixels()))
    assert after.positions[0, 0].tolist() == [4.25, 4.75]
    assert not before.present[0, 1]


def test_no_heat_no_keypoint():
    heatmaps, tags = two_pixels()
    assert not KeypointRecovery()(nobody_but(0.0), maps_of(-heatmaps.abs(), tags)).present[0, 1]
    assert not KeypointRecovery(threshold=0.85)(nobody_but(0.0), maps_of(heatmaps, tags)).present[0, 1]


def random_maps(rng: np.random.Generator, *size: int) -> tuple[torch.Tensor, torch.Tensor]:
    heatmaps, tags = rng.uniform(0, 1, size), rng.normal(0, 2, (*size, 2))
    return torch.from_numpy(heatmaps).float(), torch.from_numpy(tags).float()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31))
def test_equals_the_slow_reference(seed: int):
    rng = np.random.default_rng(seed)
    heatmaps, tags = random_maps(rng, 3, 8, 9)
    people = rng.normal(0, 2, (4, 2)).astype(np.float32).astype(np.float64)
    missing = rng.uniform(size=(4, 3)) < 0.6
    groups = replace(
        nobody_but(0.0, 3),
        positions=np.zeros((4, 3, 2)), scores=np.zeros((4, 3)), present=~missing, tag=people,
    )  # fmt: skip
    found = KeypointRecovery()(groups, maps_of(heatmaps, tags))
    for person, keypoint in zip(*np.nonzero(missing), strict=True):
        x, y = best_pixel(heatmaps[keypoint].numpy(), tags[keypoint].numpy(), people[person])
        assert np.floor(found.positions[person, keypoint]).tolist() == [x, y]
        assert found.scores[person, keypoint] == heatmaps[keypoint, y, x]


def search_of_tiles(*inputs: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(best_pixels(*(part.contiguous().numpy() for part in inputs)))


SEARCHES = pytest.mark.parametrize("search", [search_of_tiles, best_of_all])


@SEARCHES
@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**31),
    st.booleans(),
    st.sampled_from([(45, 70), (3, 5), (8, 160)]),
    st.sampled_from([1, 3]),
)
def test_skipped_tiles_do_not_contain_the_best_pixel_even_with_ties(
    search, seed: int, coarse: bool, size: tuple[int, int], dimensions: int
):
    rng = np.random.default_rng(seed)
    heatmaps = rng.uniform(-0.2, 1, (2, *size)) ** 5
    blocks = (2, -(-size[0] // 9), -(-size[1] // 10), dimensions)
    tags = 2 * np.round(np.kron(rng.normal(0, 2, blocks), np.ones((1, 9, 10, 1))))[:, : size[0], : size[1]]
    if coarse:  # many places are equally good
        heatmaps, tags = np.round(4 * heatmaps) / 4, np.round(tags)
    else:
        tags = tags + rng.normal(0, 0.2, tags.shape)
    heatmaps, tags = heatmaps.astype(np.float32), np.ascontiguousarray(tags, dtype=np.float32)
    keypoint, wanted = rng.integers(0, 2, 20), rng.normal(0, 4, (20, dimensions)).astype(np.float32)
    places = search(*map(torch.from_numpy, (heatmaps, tags, keypoint, wanted)))
    for k, tag, place in zip(keypoint, wanted, places.tolist(), strict=True):
        squared = np.zeros(size, dtype=np.float32)
        for component in range(dimensions):
            squared += (tags[k, ..., component] - tag[component]) ** 2
        assert place == np.argmax(heatmaps[k] - np.round(np.sqrt(squared)))


def test_both_searches_agree_where_maps_are_large_and_taken_in_parts(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    heatmaps, tags = random_maps(rng, 17, 96, 104)
    keypoint, wanted = torch.from_numpy(rng.integers(0, 17, 60)), torch.from_numpy(rng.normal(0, 2, (60, 2)))
    inputs = heatmaps**9, tags, keypoint, wanted.float()
    at_once = best_of_all(*inputs)
    assert torch.equal(search_of_tiles(*inputs), at_once)
    monkeypatch.setattr(recover, "_AT_ONCE", 7 * heatmaps[0].numel())
    assert torch.equal(best_of_all(*inputs), at_once)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_views_and_other_precisions(dtype: torch.dtype):
    heatmaps, tags = (maps.to(dtype) for maps in two_pixels())
    turned = heatmaps.mT.contiguous().mT, tags.transpose(1, 2).contiguous().transpose(1, 2)
    (position,) = KeypointRecovery()(nobody_but(5.4), maps_of(*turned)).positions[:, 1].tolist()
    assert position == [8.75, 9.25]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
def test_nan_and_inf_in_maps_do_no_harm(value: float, everywhere: bool):
    for hurt in range(2):
        maps = random_maps(np.random.default_rng(0), 2, 20, 30)
        maps[hurt].view(-1)[slice(None) if everywhere else slice(100, None, 7)] = value
        pixels = search_of_tiles(*maps, torch.tensor([0, 1, 1]), torch.zeros(3, 2))
        assert ((pixels >= 0) & (pixels < 600)).all()


@pytest.mark.parametrize(
    "wrong", ["fewer tags", "smaller tags", "more components", "fewer heatmaps", "no pixels"]
)
def test_maps_that_do_not_belong_together_are_refused(untyped, wrong: str):
    heatmaps, tags = two_pixels()
    maps = {
        "fewer tags": (heatmaps, tags[:1]),
        "smaller tags": (heatmaps, tags[:, :5]),
        "more components": (heatmaps, tags.expand(-1, -1, -1, 3)),
        "fewer heatmaps": (heatmaps[:1], tags[:1]),
        "no pixels": (heatmaps[:, :0], tags[:, :0]),
    }
    with pytest.raises(ValueError, match="pass the maps that the groups were found on"):
        KeypointRecovery()(nobody_but(0.0), maps_of(*maps[wrong]))


def test_of_equals_the_first_counts_whichever_tile_is_visited_first():
    """One tile is hotter, by a pixel whose tag does not fit, and is visited first."""
    for first, second in (((3, 5), (2, 9)), ((2, 5), (3, 9)), ((7, 0), (0, 15)), ((0, 7), (7, 8))):
        heatmaps, tags = torch.zeros(1, 8, 16), torch.full((1, 8, 16, 1), 9.0)
        for y, x in (first, second):
            heatmaps[0, y, x], tags[0, y, x] = 0.5, 0.0
        for hot in ((0, 0), (4, 12)):
            hotter = heatmaps.clone()
            hotter[0][hot] = 0.9
            inputs = hotter, tags, torch.tensor([0]), torch.zeros(1, 1)
            earliest = min(y * 16 + x for y, x in (first, second))
            assert search_of_tiles(*inputs).item() == best_of_all(*inputs).item() == earliest
