"""``python -m vocalsep`` is the command ``vocalsep``."""

from vocalsep.cli import main

if __name__ == "__main__":
    main()
