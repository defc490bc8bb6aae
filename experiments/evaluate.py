"""The same as `swahr evaluate`."""

from swahr.cli.evaluate import main

if __name__ == "__main__":
    main()
