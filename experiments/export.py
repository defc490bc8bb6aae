"""The same as `swahr export`."""

from swahr.cli.main import run

if __name__ == "__main__":
    run("export")
