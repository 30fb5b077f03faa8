"""Time each evaluator on a thousand images of fifty objects, in one thread."""

import sys

from objguided_d2.profiling.evaluators import main

if __name__ == "__main__":
    sys.exit(main())
