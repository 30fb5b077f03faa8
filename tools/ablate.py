#!/usr/bin/env python
"""Compare sampling strategies of the refinement (Table II): ``objguided ablate``."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["ablate", *sys.argv[1:]])
