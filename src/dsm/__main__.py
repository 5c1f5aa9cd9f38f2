"""``python -m dsm``: the ``dsm`` command."""

from dsm.cli.main import main

if __name__ == "__main__":
    main()
