"""Compare runs on one dataset: tables, figures and a page to look at."""

import sys

from objguided_d2.report.compare_command import main

if __name__ == "__main__":
    sys.exit(main())
