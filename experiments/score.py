"""The same as `swahr score`."""

from swahr.cli.score import main

if __name__ == "__main__":
    main()
