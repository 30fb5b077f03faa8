#!/usr/bin/env python
"""Convert a 2D dataset of the Cell Tracking Challenge to COCO JSON (see datasets/README.md)."""

import argparse
import sys
from pathlib import Path

from objguided_d2.data import datasets_root
from objguided_d2.data.converters.ctc import TRUTHS, convert_ctc
from objguided_d2.data.intensity import DEFAULT
from objguided_d2.data.source_error import SourceError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder or zip archive with NN/, NN_GT/, NN_ST/")
    parser.add_argument("--name", help="dataset name (default: ctc_<source>)")
    parser.add_argument("--train-truth", choices=TRUTHS, default="silver", help="default: %(default)s")
    parser.add_argument("--val-truth", choices=TRUTHS, default="both", help="default: %(default)s")
    parser.add_argument("--val-sequences", nargs="*", default=(), help="sequences to hold out, as 02")
    parser.add_argument(
        "--val-fraction", type=float, default=0.2, help="else the last part of each (default: %(default)s)"
    )
    parser.add_argument("--gap", type=int, default=2, help="frames dropped between the parts (default: %(default)s)")
    parser.add_argument("--intensity", default=DEFAULT, help="for more than 8 bits (default: %(default)s)")
    parser.add_argument("--border", type=int, help="strip without truth, pixels (default: the challenge's)")
    parser.add_argument("--output", type=Path, default=datasets_root(), help="datasets root (default: %(default)s)")
    args = parser.parse_args()
    try:
        notes = convert_ctc(
            args.source,
            args.output / (args.name or f"ctc_{args.source.resolve().stem}"),
            train_truth=args.train_truth,
            val_truth=args.val_truth,
            val_sequences=args.val_sequences,
            val_fraction=args.val_fraction,
            gap=args.gap,
            intensity=args.intensity,
            border=args.border,
        )
    except (SourceError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if notes.num_left_out:
        sys.exit(2)


if __name__ == "__main__":
    main()
