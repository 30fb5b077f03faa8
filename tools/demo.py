#!/usr/bin/env python
"""The package in three minutes: nuclei in sample images, then the model fine-tuned on six images of other cells."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["demo", *sys.argv[1:]])
