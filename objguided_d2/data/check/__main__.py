"""``python -m objguided_d2.data.check`` is the command ``objguided check``."""

import sys

from ..check_command import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m objguided_d2.data.check"))
