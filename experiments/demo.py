"""Finds a person in a photograph, then trains the tiny network on rendered crowds and evaluates it on others.

The photograph travels with matplotlib: Grace Hopper, in the public domain. The same as::

    swahr predict <…>/grace_hopper.jpg output=runs/demo/<time>/photo
    swahr train experiment=demo output=runs/demo/<time>/train trainer.accelerator=cpu trainer.devices=2
    swahr evaluate checkpoint=<…>/train/best.safetensors data.module.val.seed=2 data.module.val.size=300

With a GPU or a single core, the two ``trainer`` settings are left out. Otherwise training runs in two
processes, which use two cores better than two threads of one process.
"""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import torch
from matplotlib import cbook

TWO_PROCESSES = ["trainer.accelerator=cpu", "trainer.devices=2"]
HELD_OUT = [
    "data.module.val.seed=2",
    "data.module.val.size=300",
]  # training data have seed 0, validation data during training seed 1


def _swahr(command: str, *overrides: str) -> None:
    subprocess.run([sys.executable, "-m", "swahr.cli.main", command, *overrides], check=True)


def main() -> None:
    """Run both commands; print the AP and the paths of the files."""
    folder = Path("runs/demo") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    _swahr("predict", cbook.get_sample_data("grace_hopper.jpg", asfileobj=False), f"output={folder}/photo")
    one_device = torch.cuda.is_available() or os.cpu_count() == 1
    _swahr("train", "experiment=demo", f"output={folder}/train", *([] if one_device else TWO_PROCESSES))
    checkpoint = folder / "train" / "best.safetensors"
    _swahr("evaluate", f"checkpoint={checkpoint}", f"output={folder}/evaluate", *HELD_OUT)
    metrics = folder / "evaluate" / "metrics.json"
    outputs = {
        "photograph": folder / "photo" / "pictures" / "grace_hopper.jpg",
        "AP on held-out crowds": json.loads(metrics.read_text())["metrics"]["AP"],
        "metrics": metrics,
        "loss curve": folder / "train" / "loss.png",
        "AP curve": folder / "train" / "ap.png",
        "predictions": folder / "evaluate" / "predictions.png",
        "checkpoint": checkpoint,
    }
    sys.stdout.write("".join(f"{name:<24}{value}\n" for name, value in outputs.items()))


if __name__ == "__main__":
    main()
