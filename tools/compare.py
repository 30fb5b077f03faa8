"""Compare runs on one data set: tables, figures and a page to look at."""

import argparse
import sys
from pathlib import Path

from detectron2.data import DatasetCatalog

from objguided_d2.data import register_objguided_instances
from objguided_d2.report.comparison import Options, compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="OUTPUT_DIR, COCO results JSON or folder of label images")
    parser.add_argument("--dataset", required=True, help="registered name, or the name for --annotations and --images")
    parser.add_argument("--annotations", type=Path, help="COCO JSON of a data set that is not registered")
    parser.add_argument("--images", type=Path, help="folder of its images")
    parser.add_argument("--output", type=Path, required=True, help="folder for the page")
    parser.add_argument("--limit", type=int, default=Options.limit, help="detections an image (default: %(default)s)")
    parser.add_argument("--score-threshold", type=float, default=Options.score_threshold, help="default: %(default)s")
    parser.add_argument("--ablation", type=Path, help="ablation.json of tools/ablate.py, to show as bars")
    parser.add_argument("--no-speed", action="store_true", help="do not measure speed and memory")
    args = parser.parse_args()
    if bool(args.annotations) != bool(args.images):
        parser.error("--annotations and --images go together")
    if args.annotations and args.dataset in DatasetCatalog:
        parser.error(f"{args.dataset} is registered already; give --annotations another name with --dataset")
    options = Options(limit=args.limit, score_threshold=args.score_threshold, with_speed=not args.no_speed)
    try:
        if args.annotations:
            register_objguided_instances(args.dataset, str(args.annotations), str(args.images))
        print(f"Look at {compare(args.dataset, args.runs, args.output, options, args.ablation)}")
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
