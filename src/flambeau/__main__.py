"""``python -m flambeau``: the command line, for where its script is not on the path."""

from flambeau.cli.main import main

if __name__ == "__main__":
    main()
