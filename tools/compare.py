#!/usr/bin/env python
"""Compare runs on one dataset, with tables, figures and a page to look at: ``objguided compare``."""

import sys

from objguided_d2.cli import console

if __name__ == "__main__":
    console(["compare", *sys.argv[1:]])
