"""The same as `swahr evaluate`."""

from swahr.cli.main import run

if __name__ == "__main__":
    run("evaluate")
