#!/usr/bin/env python
"""Make the synthetic dataset: see datasets/README.md."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["prepare", "synthetic", *sys.argv[1:]])
