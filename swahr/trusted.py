"""Check of the classes that a file names, before any of them is imported.

A checkpoint holds configuration nodes, ``{_target_: package.Class, …}``, which are instantiated when it is
used. It may come from a stranger, so only classes of swahr are allowed, unless the caller trusts further
packages by name.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_HYDRA_KEY = re.compile(r"_\w+_")
_NODE_SETTINGS = {"_target_", "_partial_"}
_REFERENCE = re.compile(r"(^|(?<=/))\$\{\s*[\w.\[\]]+\s*\}(?=/|$)")  # a whole part of a path
_DEEPEST = 40  # nested values
_UNUSED = {("trainer", "lightning.pytorch.Trainer")}  # present in files of format 1, but never instantiated


def check_targets(config: Mapping[str, Any], *, source: str, trust: Iterable[str] = ()) -> None:
    """Check that a configuration from a file only names classes of trusted packages.

    Args:
        config: plain values, by group.
        source: name of the file in messages.
        trust: packages whose classes are allowed besides those of swahr; one or several.

    Raises:
        ValueError: a ``_target_`` is not the name of a class or belongs to another package, a key is one of
            Hydra's own (such as ``defaults``), or an interpolation is more than a reference to another value.
    """
    trusted = ("swahr", *([trust] if isinstance(trust, str) else trust))
    for group, tree in config.items():
        for path, key, value in _entries(tree, f"{source}: {group}"):
            if key == "defaults" or "${" in key or (_HYDRA_KEY.fullmatch(key) and key not in _NODE_SETTINGS):
                raise ValueError(f"{path} refused: a checkpoint may not contain Hydra's own settings")
            if key == "_target_" and (not isinstance(value, str) or not _DOTTED_NAME.fullmatch(value)):
                raise ValueError(f"{path}={value!r} refused: expected the dotted name of a class")
            if key == "_target_" and (group, value) not in _UNUSED:
                _check_package(path, value, trusted)
            if not is_reference_only(value):
                raise ValueError(
                    f"{path}={value!r} refused: values of a checkpoint may refer to others "
                    "(${group.key}/…), but not call resolvers"
                )


def _check_package(path: str, name: str, trusted: tuple[str, ...]) -> None:
    package = name.partition(".")[0]
    if package not in trusted:
        raise ValueError(
            f"{path}={name} refused: only classes of {', '.join(trusted)} are allowed. If you trust the file "
            f"and the package {package}, add trust=[{package}]"
        )


def is_reference_only(value: Any) -> bool:
    """Whether a plain value has no interpolations but references that are whole parts of a path.

    Thus values cannot be put together from ``$``, ``{`` and the name of a resolver.
    """
    return not isinstance(value, str) or "${" not in _REFERENCE.sub("", value)


def _entries(tree: Any, path: str, key: str = "", depth: int = 0) -> Iterator[tuple[str, str, Any]]:
    """The path, key and value of a tree and everything in it; the key of a list's item is empty."""
    if depth > _DEEPEST:
        raise ValueError(f"{path[:200]}… refused: expected values nested at most {_DEEPEST} deep")
    yield path, key, tree
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _entries(value, f"{path}.{name}", str(name), depth + 1)
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            yield from _entries(value, f"{path}[{i}]", "", depth + 1)
