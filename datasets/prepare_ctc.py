#!/usr/bin/env python
"""Convert a 2D dataset of the Cell Tracking Challenge to COCO JSON: see datasets/README.md."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["prepare", "ctc", *sys.argv[1:]])
