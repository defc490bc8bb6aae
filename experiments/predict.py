"""The same as `swahr predict`."""

from swahr.cli.predict import main

if __name__ == "__main__":
    main()
