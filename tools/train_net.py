#!/usr/bin/env python
"""Train or evaluate any model that the configs describe: ``objguided train``."""

import sys

from objguided_d2.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
