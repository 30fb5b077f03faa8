#!/usr/bin/env python
"""Convert Plant Phenotyping or Leaf Segmentation Challenge images to COCO JSON (see datasets/README.md)."""

import argparse
import sys
from pathlib import Path

from objguided_d2.data import datasets_root
from objguided_d2.data.converters.plant import convert_plants
from objguided_d2.data.source_error import SourceError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--source", type=Path, required=True, help="folder or zip archive of PNG files, or of HDF5 files"
    )
    parser.add_argument("--name", default="plant", help="dataset name, plant or lsc (default: %(default)s)")
    parser.add_argument("--val-fraction", type=float, default=0.2, help="default: %(default)s")
    parser.add_argument("--test-fraction", type=float, default=0.2, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=datasets_root(), help="datasets root (default: %(default)s)")
    args = parser.parse_args()
    try:
        notes = convert_plants(
            args.source,
            args.output / args.name,
            val_fraction=args.val_fraction,
            test_fraction=args.test_fraction,
            seed=args.seed,
        )
    except (SourceError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if notes.num_left_out:
        sys.exit(2)


if __name__ == "__main__":
    main()
