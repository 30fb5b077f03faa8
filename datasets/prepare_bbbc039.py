#!/usr/bin/env python
"""Convert BBBC039 to COCO JSON: see datasets/README.md."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["prepare", "bbbc039", *sys.argv[1:]])
