"""Validation of settings that take one of a few values."""

from collections.abc import Iterable


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raise ValueError if setting ``name`` is not one of ``choices`` (e.g. ``get_args`` of a ``Literal``)."""
    known = list(choices)
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, known))}, got {value!r}")
