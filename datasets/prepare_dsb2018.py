#!/usr/bin/env python
"""Convert the 2018 Data Science Bowl stage 1 training set to COCO JSON (see datasets/README.md)."""

import argparse
import sys
from pathlib import Path

from objguided_d2.data import datasets_root
from objguided_d2.data.converters.dsb2018 import convert_dsb2018
from objguided_d2.data.source_error import SourceError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="stage1_train.zip or the folder it unpacks to")
    parser.add_argument("--output", type=Path, default=datasets_root(), help="datasets root (default: %(default)s)")
    args = parser.parse_args()
    try:
        notes = convert_dsb2018(args.source, args.output / "dsb2018")
    except (SourceError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if notes.num_left_out:
        sys.exit(2)


if __name__ == "__main__":
    main()
