#!/usr/bin/env python
"""Draw a data set, train the small model on it for a few minutes, evaluate, and draw a sheet of predictions."""

import argparse
from pathlib import Path

from objguided_d2.demo import run_demo

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for all files (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=5.0, help="training time (default: %(default)s)")
    arguments = parser.parse_args()
    run_demo(arguments.output, arguments.minutes)
