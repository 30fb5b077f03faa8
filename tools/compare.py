"""Compare runs on one data set: tables, figures and a page to look at."""

import argparse
import sys
from pathlib import Path

from objguided_d2.engine.ablation import AblationError
from objguided_d2.report.comparison import Options, compare
from objguided_d2.report.runs import RunError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="OUTPUT_DIR, COCO results JSON or folder of label images")
    parser.add_argument("--dataset", required=True, help="registered name")
    parser.add_argument("--output", type=Path, required=True, help="folder for the page")
    parser.add_argument("--limit", type=int, default=Options.limit, help="detections an image (default: %(default)s)")
    parser.add_argument("--score-threshold", type=float, default=Options.score_threshold, help="default: %(default)s")
    parser.add_argument("--ablation", type=Path, help="ablation.json of tools/ablate.py, to show as bars")
    parser.add_argument("--no-speed", action="store_true", help="do not measure speed and memory")
    args = parser.parse_args()
    options = Options(limit=args.limit, score_threshold=args.score_threshold, with_speed=not args.no_speed)
    try:
        print(f"Look at {compare(args.dataset, args.runs, args.output, options, args.ablation)}")
    except (RunError, AblationError, KeyError, FileNotFoundError) as error:
        sys.exit(f"error: {error.args[0] if isinstance(error, KeyError) else error}")


if __name__ == "__main__":
    main()
