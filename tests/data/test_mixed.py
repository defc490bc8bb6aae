"""Images of several sources in turn."""

from collections.abc import Callable
from typing import Any

import pytest

from swahr.data import MixedSource, Source
from swahr.skeleton import CROWDPOSE


def test_sources_take_turns_and_the_short_one_is_repeated(numbered_source: Callable[..., Source]) -> None:
    first, second = numbered_source(3), numbered_source(100)
    mixed = MixedSource({"first": first, "second": second}, size=8)
    assert len(mixed) == 8
    assert mixed.skeleton == first.skeleton
    assert mixed.unbounded
    wanted = [first[0], second[0], first[1], second[1], first[2], second[2], first[0], second[3]]
    assert [image.image_id for image in mixed] == [image.image_id for image in wanted]
    assert (mixed[6].image == first[0].image).all()
    assert mixed.describe(5) == second.describe(2)


def test_endless_sources_go_on(numbered_source: Callable[..., Any]) -> None:
    endless = numbered_source(2)
    endless.unbounded = True
    mixed = MixedSource({"endless": endless}, size=2)
    assert mixed._place(7) == 7
    assert MixedSource({"few": numbered_source(2)}, size=2)._place(7) == 1


def test_errors(numbered_source: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="sources: expected some"):
        MixedSource({}, size=3)
    with pytest.raises(ValueError, match=r"empty: \['none'\]"):
        MixedSource({"some": numbered_source(2), "none": numbered_source(0)}, size=3)
    with pytest.raises(ValueError, match=r"expected sources with the skeleton 'crowdpose'"):
        MixedSource({"some": numbered_source(2)}, size=3, skeleton=CROWDPOSE)
    other = numbered_source(2)
    other.skeleton = CROWDPOSE
    with pytest.raises(ValueError, match=r"got \{'theirs'"):
        MixedSource({"some": numbered_source(2), "theirs": other}, size=3)
    with pytest.raises(ValueError, match="for training"):
        MixedSource({"some": numbered_source(2)}, size=3).ground_truth()
