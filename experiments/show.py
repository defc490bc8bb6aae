"""The same as `swahr show`."""

from swahr.cli.main import run

if __name__ == "__main__":
    run("show")
