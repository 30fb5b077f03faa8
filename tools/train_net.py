#!/usr/bin/env python
"""Train or evaluate any model that the configs describe: ``objguided train``."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["train", *sys.argv[1:]])
