"""Parts of a run that are tried before its first step, so that their errors cost no training."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def rehearsed(part: str, *, on: bool = True) -> Iterator[None]:
    """Errors inside become a ValueError that names the part; nothing happens unless ``on``."""
    try:
        yield
    except Exception as error:
        if not on:
            raise
        reason = error if isinstance(error, ValueError | TypeError | OSError | ImportError) else repr(error)
        raise ValueError(f"{part} failed when tried before the first step: {reason}") from error
