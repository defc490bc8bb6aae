"""Validation of settings that take one of a few values, or values of a type."""

from collections.abc import Iterable, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise ValueError if setting ``name`` is not one of ``choices`` (e.g. ``get_args`` of a ``Literal``)."""
    known = list(choices)
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, known))}, got {value!r}")


def check_setting(name: str, value: object, expected: object) -> None:
    """Raise ValueError if a value of setting ``name`` does not fit a type annotation (see `fits`)."""
    if not fits(value, expected):
        raise ValueError(f"{name}={value!r}: expected {_in_words(expected)}")


def fits(value: object, expected: Any) -> bool:
    """Whether a plain value fits a type annotation of flags, numbers, strings, and sequences of these.

    Others fit any value: their constructors check them.
    """
    arguments = get_args(expected)
    if isinstance(expected, UnionType) or get_origin(expected) is Union:
        return any(fits(value, option) for option in arguments)
    if expected in (None, NoneType):
        return value is None
    if expected is bool or expected is str:
        return isinstance(value, expected)
    if expected is int or expected is float:
        return isinstance(value, int if expected is int else int | float) and not isinstance(value, bool)
    if get_origin(expected) in (Sequence, list, tuple):
        if len(set(arguments) - {Ellipsis}) != 1:
            return isinstance(value, list | tuple)
        return isinstance(value, list | tuple) and all(fits(item, arguments[0]) for item in value)
    return True


def _in_words(expected: Any) -> str:
    words = {bool: "true or false", int: "an integer", float: "a number", str: "text", NoneType: "null"}
    arguments = get_args(expected)
    if isinstance(expected, UnionType) or get_origin(expected) is Union:
        return " or ".join(map(_in_words, arguments))
    if get_origin(expected) in (Sequence, list, tuple):
        return f"a list [{_in_words(arguments[0])}, …]"
    return words.get(expected, str(expected))
