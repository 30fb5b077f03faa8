#!/usr/bin/env python
"""Predict images: ``objguided predict``."""

import sys

from objguided_d2.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
