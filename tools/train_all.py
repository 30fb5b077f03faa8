#!/usr/bin/env python
"""Train a suite of configs under the same budget, then compare them: ``objguided train --suite``."""

import sys

from objguided_d2.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
