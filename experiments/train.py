"""The same as `swahr train`."""

from swahr.cli.train import main

if __name__ == "__main__":
    main()
