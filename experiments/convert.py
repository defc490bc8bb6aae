"""The same as `swahr convert`."""

from swahr.cli.main import run

if __name__ == "__main__":
    run("convert")
