#!/usr/bin/env python
"""Convert the 2018 Data Science Bowl, stage 1, to COCO JSON: see datasets/README.md."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["prepare", "dsb2018", *sys.argv[1:]])
