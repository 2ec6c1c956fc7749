"""``python -m vocalsep`` runs the same command as ``vocalsep``."""

from vocalsep.cli import main

if __name__ == "__main__":
    main()
