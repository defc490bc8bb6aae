"""The same as `swahr score`."""

from swahr.cli.main import run

if __name__ == "__main__":
    run("score")
