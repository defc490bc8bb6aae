"""Fixtures of the decode stage's tests."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def decode_reference() -> ModuleType:
    """The slow versions in reference.py beside this file."""
    spec = importlib.util.spec_from_file_location(
        "decode_reference", Path(__file__).with_name("reference.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
