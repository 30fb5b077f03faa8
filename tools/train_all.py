#!/usr/bin/env python
"""Train a suite of configs under the same budget, then compare them: ``objguided train --suite``."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["train", *sys.argv[1:]])
