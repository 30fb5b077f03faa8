#!/usr/bin/env python
"""Synthetic images, the small model trained on them for some minutes, its evaluation and a sheet of predictions."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["demo", *sys.argv[1:]])
