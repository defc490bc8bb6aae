"""Writes this folder's files of the present checkpoint format; run once per format, while it is that.

    PYTHONPATH=tests python tests/checkpoint/regenerate.py

Files of older formats stay as they are; `test_formats.py` reads them all. The network is tiny, has a head for
every map, and predicts enough for people to be found. The ``.ckpt`` is from a run that started from it. The
``.npz`` beside each file has the maps and the people that it predicts for ``image.npy``.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import torch

from swahr import COCO, Predictor
from swahr.build import build_network, model_node, network_facts
from swahr.checkpoint import save_checkpoint
from swahr.cli.command import compose_config
from swahr.cli.export import export
from swahr.cli.train import train
from swahr.inference import Backend
from swahr.migration import FORMAT
from swahr.nodes import instantiate
from swahr.provenance import provenance
from swahr.runs.description import describe

HERE = Path(__file__).resolve().parent
NAME = f"format_{FORMAT}"
SETTINGS = (
    "experiment=smoke", "loss=swahr_learned", "targets.sigma=1.5", "decode=dark_scale_map",
    "decode.refine.kernel_size=7", "grouping.peaks.threshold=0.3", "model.backbone.stem_channels=4",
    "model.backbone.layer1_channels=2", "model.backbone.channels=[4,4]", "model.backbone.modules=[1]",
    "model.deconv_channels=[4]",
)  # fmt: skip
TRAINING = (*SETTINGS, "training.optimiser.lr=1e-6", "output=run")


def predictions(path: Path, *, backend: Backend | None = None) -> dict[str, np.ndarray]:
    """The people that a file's network finds in the image."""
    poses = Predictor.from_checkpoint(path, device="cpu", backend=backend)(np.load(HERE / "image.npy"))
    return {"keypoints": poses.keypoints, "scores": poses.scores, "score": poses.score}


def maps(path: Path) -> dict[str, np.ndarray]:
    """Every fourth value of the maps that a file's network predicts for a part of the image."""
    part = torch.from_numpy(np.load(HERE / "image.npy")[:64, :64]).permute(2, 0, 1)[None].contiguous()
    output = Predictor.from_checkpoint(path, device="cpu").network(part)
    return {
        f"{name}_{level.stride}": field[:, :, ::4, ::4].numpy()
        for level in output
        for name, field in level.fields.items()
    }


def write_network(path: Path) -> None:
    """A random network whose heads all say something."""
    config = compose_config("train", list(SETTINGS))
    torch.manual_seed(0)
    model = model_node(config.model, instantiate(config.loss).needs)
    network = build_network(model, COCO)
    for heads in network.heads:
        for head in heads.values():
            last = head.smooth if hasattr(head, "smooth") else head.conv
            torch.nn.init.normal_(last.weight, std=0.3)
    description = describe(config, model, network_facts(network), COCO, provenance(seed=0, files=[]))
    save_checkpoint(path, network.state_dict(), description)


def without_folder(path: Path) -> None:
    """Take the folder, of the machine that trained, out of a run's checkpoint."""
    content = torch.load(path, weights_only=True)
    for state in content["callbacks"].values():
        for key in ("dirpath", "best_model_path", "last_model_path"):
            if state.get(key):
                state[key] = str(Path(state[key]).relative_to(Path.cwd()))
    torch.save(content, path)


def main() -> None:
    """Write the files."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_network(Path(f"{NAME}.safetensors"))
        train(compose_config("train", [*TRAINING, f"weights={NAME}.safetensors"]))
        without_folder(Path("run/last.ckpt"))
        Path("run/last.ckpt").rename(f"{NAME}.ckpt")
        export(compose_config("export", [f"checkpoint={NAME}.safetensors", f"output={NAME}.onnx"]))
        for suffix in ("safetensors", "ckpt", "onnx"):
            path = HERE / f"{NAME}.{suffix}"
            path.write_bytes(Path(path.name).read_bytes())
            named = {} if suffix == "onnx" else maps(path)
            np.savez_compressed(f"{path}.npz", **predictions(path), **named)


if __name__ == "__main__":
    main()
