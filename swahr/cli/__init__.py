"""The command line; `swahr.cli.main.COMMANDS` lists the commands."""
