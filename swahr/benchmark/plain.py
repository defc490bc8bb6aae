"""The plain versions that fast paths are compared with: ``experiments/plain``, which wheels carry."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def load_plain(name: str) -> ModuleType:
    """The module ``name`` of ``experiments/plain``: inside the installed wheel, or in the checkout.

    Raises:
        FileNotFoundError: it is in neither.
    """
    package = Path(__file__).resolve().parent
    folders = (package / "plain_versions", package.parents[1] / "experiments" / "plain")
    for file in (folder / f"{name}.py" for folder in folders):
        if file.is_file():
            spec = importlib.util.spec_from_file_location(f"swahr_plain_{name}", file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise FileNotFoundError(f"no {name}.py in {' or '.join(map(str, folders))}; install swahr again")
