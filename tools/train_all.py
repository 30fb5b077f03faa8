"""Train a list of configs one after another under the same budget, then compare them."""

import argparse
import subprocess
import sys
from pathlib import Path

from objguided_d2.engine.suite import Suite, train_suite
from objguided_d2.report.comparison import Options, compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", type=Path, required=True, help="file with the data set and the configs")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="of training steps for each config")
    budget.add_argument("--images", type=int, help="to be seen by each config")
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs and the page")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs for all runs")
    args = parser.parse_args()
    try:
        suite = Suite.read(args.suite)
        folders = train_suite(suite, args.output, minutes=args.minutes, images=args.images, options=args.opts)
        print(f"Look at {compare(suite.dataset, folders, args.output / 'comparison', Options())}")
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"error: a run failed: {' '.join(error.cmd)}\nMend the cause and run this again; what has ended is kept"
        )
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
