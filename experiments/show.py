"""The same as `swahr show`."""

from swahr.cli.show import main

if __name__ == "__main__":
    main()
