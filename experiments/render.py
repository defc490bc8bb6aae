"""The same as `swahr render`."""

from swahr.cli.main import run

if __name__ == "__main__":
    run("render")
