"""``swahr <command> …``: finds the command and hands it the rest of the line."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "train": "train a network; AP on validation data while it trains",
    "evaluate": "COCO or CrowdPose figures of a trained network",
    "predict": "find people in images, folders and globs; draw them; write COCO-format JSON",
    "show": "draw targets, heatmaps, tags, scale maps and weight maps over an image",
    "render": "write rendered crowds to disk as a COCO-format data set",
    "convert": "turn published weights into a checkpoint",
    "benchmark": "what decoding, targets and losses cost, beside plain versions",
    "export": "write a network as an ONNX file, for ONNX Runtime and OpenVINO",
    "score": "figures of a results file against annotations",
}


def usage() -> str:
    """The text of ``swahr --help``."""
    lines = "\n".join(f"  {name:<11}{text}" for name, text in COMMANDS.items())
    return (
        "usage: swahr <command> [key=value …]\n\n"
        "Bottom-up multi-person pose estimation with scale- and weight-adaptive heatmap regression.\n\n"
        f"{lines}\n\n`swahr <command> --help` shows what a command can be told.\n"
    )


def main() -> None:
    """Run the command named by the first argument."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help"):
        sys.stdout.write(usage())
        return
    if command == "--version":
        sys.stdout.write(importlib.import_module("swahr").__version__ + "\n")
        return
    if command not in COMMANDS:
        sys.stderr.write(f"swahr: there is no command '{command}'\n\n{usage()}")
        raise SystemExit(2)
    del sys.argv[1]
    importlib.import_module(f"swahr.cli.{command}").main()


if __name__ == "__main__":
    main()
