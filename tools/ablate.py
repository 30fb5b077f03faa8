"""Compare sampling strategies of the refinement (Table II) over one config and several seeds."""

import sys

from objguided_d2.report.ablate_command import main

if __name__ == "__main__":
    sys.exit(main())
