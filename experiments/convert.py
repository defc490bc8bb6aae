"""The same as `swahr convert`."""

from swahr.cli.convert import main

if __name__ == "__main__":
    main()
