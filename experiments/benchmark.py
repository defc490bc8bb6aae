"""The same as `swahr benchmark`."""

from swahr.cli.benchmark import main

if __name__ == "__main__":
    main()
