#!/usr/bin/env python
"""Predict images: ``objguided predict``."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["predict", *sys.argv[1:]])
