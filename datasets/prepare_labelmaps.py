#!/usr/bin/env python
"""Convert a custom dataset to COCO JSON: see datasets/README.md."""

import sys

from objguided_d2.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", "labelmaps", *sys.argv[1:]]))
