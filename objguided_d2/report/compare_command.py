"""The command ``compare``: runs on one dataset -> tables, figures and a page to look at."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from .options import BEST, Options


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Compare what the command line names.

    Args:
        argv: the arguments after the command's name; None is those of this process.
        prog: name of the command in its help.

    Returns:
        The exit status: 1 for runs or data that cannot be compared. Wrong arguments raise SystemExit(2).
    """
    parser = _parser(prog)
    args = parser.parse_args(argv)
    if bool(args.annotations) != bool(args.images):
        parser.error("--annotations and --images go together")
    from detectron2.data import DatasetCatalog

    from ..data.builtin import register_objguided_instances
    from .comparison import compare

    if args.annotations and args.dataset in DatasetCatalog:
        parser.error(f"{args.dataset} is registered already; give --annotations another name with --dataset")
    options = Options(limit=args.limit, score_threshold=args.score_threshold, with_speed=not args.no_speed)
    try:
        if args.annotations:
            register_objguided_instances(args.dataset, str(args.annotations), str(args.images))
        print(f"Look at {compare(args.dataset, args.runs, args.output, options, args.ablation)}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Compare runs on one dataset: tables, figures and a page to look at."
    )
    parser.add_argument("runs", type=Path, nargs="+", help="OUTPUT_DIR, COCO results JSON or folder of label images")
    parser.add_argument("--dataset", required=True, help="registered name, or the name for --annotations and --images")
    parser.add_argument("--annotations", type=Path, help="COCO JSON of a dataset that is not registered")
    parser.add_argument("--images", type=Path, help="folder of its images")
    parser.add_argument("--output", type=Path, required=True, help="folder for the page")
    parser.add_argument("--limit", type=int, default=Options.limit, help="detections per image (default: %(default)s)")
    parser.add_argument(
        "--score-threshold",
        type=_score_threshold,
        help="of label maps, or best: with which each run has its best F1 at IoU 0.5 on these images (default: "
        "TEST.LABEL_MAP_SCORE_THRESH of each run)",
    )
    parser.add_argument("--ablation", type=Path, help="ablation.json of tools/ablate.py, to show as bars")
    parser.add_argument("--no-speed", action="store_true", help="do not measure speed and memory")
    return parser


def _score_threshold(text: str) -> float | Literal["best"]:
    if text == BEST:
        return BEST
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {BEST!r}") from None
