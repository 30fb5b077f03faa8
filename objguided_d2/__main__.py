"""``python -m objguided_d2`` is the command ``objguided``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
