"""The same as `swahr render`."""

from swahr.cli.render import main

if __name__ == "__main__":
    main()
