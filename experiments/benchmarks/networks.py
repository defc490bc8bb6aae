"""Untrained networks for timing, and the backends that run them."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
from omegaconf import DictConfig, OmegaConf

from swahr.aggregate import Aggregator
from swahr.build import build_network, model_node, skeleton_facts, target_facts
from swahr.grouping import PeakExtractor
from swahr.inference import Backend, ExportedNetwork, Precision, export_network, open_exported
from swahr.model import HigherHRNet
from swahr.nodes import instantiate
from swahr.skeleton import COCO

_log = logging.getLogger(__name__)
_EXPORTED: tuple[tuple[Backend, Precision], ...] = (
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)


def untrained_network(
    config: DictConfig, model: DictConfig, device: torch.device, *, needs: frozenset[str] | None = None
) -> HigherHRNet:
    """``model`` with random weights, ready for inference.

    It has the heads of the maps ``needs``, by default those that ``config.loss`` needs.
    """
    torch.manual_seed(config.seed)
    # Initial weights by fan-in: with the published deviation, the maps of an untrained network are about
    # 1e-14, and its gradients are denormal numbers, which slow a CPU down.
    if "initial_std" in model.backbone:
        by_fan_in = OmegaConf.merge(model, {"backbone": {"initial_std": None}})
        assert isinstance(by_fan_in, DictConfig)
        model = by_fan_in
    network = build_network(model_node(model, needs or instantiate(config.loss).needs), COCO)
    assert isinstance(network, HigherHRNet)
    return network.to(device).eval()


def coco_facts(config: DictConfig) -> dict[str, Any]:
    """The facts of COCO's keypoints and of ``config.targets`` for test-time components."""
    return skeleton_facts(COCO) | target_facts(config.targets)


def can_compile() -> bool:
    """Whether there is a C++ compiler for TorchInductor; logs a warning if not."""
    found = any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))
    if not found:
        _log.warning("compiled networks are left out: there is no C++ compiler (set CXX to one)")
    return found


@contextmanager
def exported_networks(
    network: HigherHRNet, aggregate: Aggregator, extract_peaks: PeakExtractor
) -> Iterator[dict[tuple[Backend, Precision], ExportedNetwork]]:
    """The network in every installed backend, inside a context."""
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
