"""The same as `swahr join`."""

from swahr.cli.main import run

if __name__ == "__main__":
    run("join")
