"""The same as `swahr table`."""

from swahr.cli.main import run

if __name__ == "__main__":
    run("table")
