"""Measure models side by side; the acceptance suite of the ROI engine is ``python -m benchmarks.roi_engine``."""

import sys

from objguided_d2.profiling.benchmark import main

if __name__ == "__main__":
    if any(argument.partition("=")[0] == "--suite" for argument in sys.argv[1:]):
        sys.exit("error: --suite roi-engine is `python -m benchmarks.roi_engine --runs RUNS --output OUTPUT`")
    sys.exit(main())
