"""Networks for timing, and the ways of running them."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import torch
from omegaconf import DictConfig, OmegaConf

from swahr.aggregate import Aggregator
from swahr.build import build_network
from swahr.grouping import PeakExtractor
from swahr.inference import Backend, ExportedNetwork, Precision, export_network, open_exported
from swahr.model import HigherHRNet
from swahr.nodes import create
from swahr.skeleton import COCO

_log = logging.getLogger(__name__)
_EXPORTED: tuple[tuple[Backend, Precision], ...] = (
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)


def untrained_network(config: DictConfig, model: DictConfig, device: torch.device) -> HigherHRNet:
    """``model`` with random weights whose maps are neither all but zero nor huge, ready for inference."""
    torch.manual_seed(config.seed)
    # Initial weights by fan-in: with the published deviation, an untrained network says nothing but 1e-14,
    # and its gradients are so small that a CPU takes many times as long.
    node = OmegaConf.merge(model, {"initial_std": None})
    assert isinstance(node, DictConfig)
    return build_network(node, COCO, create(config.loss)).to(device).eval()


def can_compile() -> bool:
    """Whether there is a C++ compiler for TorchInductor; says so where there is none."""
    found = any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))
    if not found:
        _log.warning("compiled networks are left out: there is no C++ compiler (set CXX to one)")
    return found


@contextmanager
def exported_networks(
    network: HigherHRNet, aggregate: Aggregator, extract_peaks: PeakExtractor
) -> Iterator[dict[tuple[Backend, Precision], ExportedNetwork]]:
    """The network in every backend that is installed, opened while this lasts."""
    missing = [name for name in ("onnx", *get_args(Backend)) if find_spec(name) is None]
    if missing:
        _log.warning("without %s: its networks are left out; pip install 'swahr[onnx,openvino]'", missing)
    if "onnx" in missing:
        yield {}
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_network(
            path, network=network, aggregate=aggregate, extract_peaks=extract_peaks, description="{}"
        )
        yield {
            (backend, precision): open_exported(path, backend=backend, precision=precision)
            for backend, precision in _EXPORTED
            if backend not in missing
        }
