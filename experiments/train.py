"""The same as `swahr train`."""

from swahr.cli.main import run

if __name__ == "__main__":
    run("train")
