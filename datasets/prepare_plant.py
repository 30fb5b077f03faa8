#!/usr/bin/env python
"""Convert Plant Phenotyping or Leaf Segmentation Challenge images to COCO JSON: see datasets/README.md."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["prepare", "plant", *sys.argv[1:]])
