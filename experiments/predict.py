"""The same as `swahr predict`."""

from swahr.cli.main import run

if __name__ == "__main__":
    run("predict")
