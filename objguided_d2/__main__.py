"""``python -m objguided_d2`` is the command ``objguided``."""

from .cli import console

if __name__ == "__main__":
    console()
