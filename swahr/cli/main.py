"""``swahr <command> …``: runs a command with the remaining arguments."""

import importlib
import os
import sys

COMMANDS = {
    "train": "train a network; AP on validation data while it trains",
    "evaluate": "COCO or CrowdPose metrics of a trained network",
    "predict": "find people in images, folders and globs; draw them; write COCO-format JSON",
    "check": "look for implausible annotations in a data set; draw examples",
    "show": "draw targets, heatmaps, tags, scale maps and weight maps over an image",
    "render": "write rendered crowds to disk as a COCO-format data set",
    "convert": "turn published weights into a checkpoint",
    "join": "write the networks of both stages to one checkpoint",
    "export": "write a network as an ONNX file, for ONNX Runtime and OpenVINO",
    "score": "metrics of a results file against annotations",
    "table": "one table of any runs: Markdown, CSV or LaTeX; mean and spread over seeds",
    "analyse": "kinds of errors in a results file, AP gained by mending each, and comparisons",
    "fit-pose-nms": "parameters of pose NMS with the highest AP of a results file",
    "fit-proposals": "how detected boxes differ from true ones, by atomic pose, for training on crops",
    "fit-deformation": "offsets of keypoints along limbs, to choose all of a crop's keypoints together",
}
_WITH_FLAGS = ("score", "table", "analyse", "fit-pose-nms", "fit-proposals", "fit-deformation")
"""Commands with settings such as ``--results``, not under Hydra."""


def usage() -> str:
    """The text of ``swahr --help``."""
    lines = "\n".join(f"  {name:<16}{text}" for name, text in COMMANDS.items())
    return (
        "usage: swahr <command> [key=value …]\n\n"
        "Bottom-up multi-person pose estimation with scale- and weight-adaptive heatmap regression.\n\n"
        f"{lines}\n\n`swahr <command> --help` lists the settings of a command.\n"
    )


def main() -> None:
    """Run the command named by the first argument."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    try:
        try:
            _dispatch(command)
        finally:  # Hydra's --help exits
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write(f"swahr {command}: interrupted\n")
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


def _dispatch(command: str) -> None:
    if command in ("-h", "--help"):
        sys.stdout.write(usage())
    elif command == "--version":
        sys.stdout.write(importlib.import_module("swahr").__version__ + "\n")
    elif command in COMMANDS:
        del sys.argv[1]
        run(command)
    else:
        sys.stderr.write(f"swahr: there is no command '{command}'\n\n{usage()}")
        raise SystemExit(2)


def run(command: str) -> None:
    """Run a command with the arguments of this process; its job is the function of its name in its module."""
    # Takes seconds to import, for which `swahr --help` need not wait.
    from swahr.cli.command import run_command

    name = command.replace("-", "_")
    job = getattr(importlib.import_module(f"swahr.cli.{name}"), name)
    job() if command in _WITH_FLAGS else run_command(command, job)


if __name__ == "__main__":
    main()
