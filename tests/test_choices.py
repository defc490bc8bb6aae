"""Plain values are compared with the annotations of constructors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest

from swahr.choices import check_setting, fits


@pytest.mark.parametrize(
    ("expected", "fitting", "others"),
    [
        (bool, [True, False], ["maybe", 1, 0.0, None, []]),
        (int, [0, -3], [True, 1.5, "1", [1]]),
        (float, [0, 1.5], [False, "1.5", None]),
        (str, ["", "x"], [1, True, ["x"]]),
        (int | None, [1, None], ["x", True]),
        (Sequence[float], [(1, 2.0), [], [1]], [1.0, "1.0", [1, "x"], {}]),
        (tuple[float, float], [(1, 2.5)], [1.0, (1, "x")]),
        (tuple[int, str], [(1, "x")], [3]),
        (bool | Sequence[int], [True, [1]], ["x", [True]]),
        (Callable[[int], int], ["anything", 1], []),
        (Mapping[str, int], ["anything"], []),
        (Literal["a"], ["b"], []),
        (Any, [object()], []),
    ],
)
def test_what_fits(expected: Any, fitting: list[Any], others: list[Any]) -> None:
    assert [value for value in fitting if not fits(value, expected)] == []
    assert [value for value in others if fits(value, expected)] == []


def test_the_error_says_what_is_expected() -> None:
    with pytest.raises(ValueError, match=r"scales='x': expected a list \[a number, …\] or null"):
        check_setting("scales", "x", Sequence[float] | None)
