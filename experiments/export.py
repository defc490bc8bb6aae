"""The same as `swahr export`."""

from swahr.cli.export import main

if __name__ == "__main__":
    main()
