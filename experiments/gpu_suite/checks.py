"""The record of one check."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One test, comparison, measurement or training.

    Attributes:
        name: unique within its part.
        passed: whether it succeeded.
        measurements: by name; plain values, for JSON.
        message: why it failed or was skipped.
    """

    name: str
    passed: bool
    measurements: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The check as plain values, for JSON."""
        return asdict(self)


class CheckFailedError(Exception):
    """A check failed.

    Args:
        message: why.
        measurements: those made before the failure.
    """

    def __init__(self, message: str, measurements: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.measurements = measurements


def perform(name: str, action: Callable[[], Mapping[str, Any]]) -> Check:
    """Run ``action``, which returns measurements, as a check that fails if it raises an exception."""
    try:
        return Check(name, passed=True, measurements=action())
    except CheckFailedError as error:
        return Check(name, passed=False, measurements=error.measurements, message=str(error))
    except Exception:
        return Check(name, passed=False, message=traceback.format_exc())
