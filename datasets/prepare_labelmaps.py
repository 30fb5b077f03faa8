#!/usr/bin/env python
"""Convert a custom dataset to COCO JSON: see datasets/README.md."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["prepare", "labelmaps", *sys.argv[1:]])
