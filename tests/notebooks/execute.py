"""Run a notebook from top to bottom, in this Python and the current folder: execute.py FROM.ipynb TO.ipynb.

A process of its own: pytest turns warnings into errors, and the kernel's client, not under test, warns.
"""

import sys

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient


class ThisPython(AsyncKernelManager):
    """Starts the interpreter that runs this, whatever kernels are installed for the user or the machine."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="this Python", language="python")


def main(source: str, executed: str) -> None:
    notebook = nbformat.read(source, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_manager_class=ThisPython,
        timeout=300,
        startup_timeout=180,
        record_timing=False,
        coalesce_streams=True,
    )
    client.execute()
    nbformat.write(notebook, executed)


if __name__ == "__main__":
    main(*sys.argv[1:])
