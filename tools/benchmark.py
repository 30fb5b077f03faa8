#!/usr/bin/env python
"""Measure models: ``objguided benchmark``. The ROI engine's acceptance suite is ``python -m benchmarks.roi_engine``."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    if any(argument.partition("=")[0] == "--suite" for argument in sys.argv[1:]):
        sys.exit("error: --suite roi-engine is `python -m benchmarks.roi_engine --runs RUNS --output OUTPUT`")
    console(["benchmark", *sys.argv[1:]])
