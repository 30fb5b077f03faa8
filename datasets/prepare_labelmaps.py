#!/usr/bin/env python
"""Convert your own images with label images, mask files, LabelMe or COCO outlines (see datasets/README.md)."""

import argparse
import sys
from pathlib import Path

from objguided_d2.data import datasets_root
from objguided_d2.data.converters.labelmaps import convert_labelmaps
from objguided_d2.data.intensity import DEFAULT
from objguided_d2.data.source_error import SourceError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder or zip archive")
    parser.add_argument("--labels", type=Path, required=True, help="folder or zip archive, or a COCO JSON file")
    parser.add_argument("--name", default="custom", help="dataset name (default: %(default)s)")
    parser.add_argument("--val-fraction", type=float, help="default: by folders called train and val, else 0.2")
    parser.add_argument("--test-fraction", type=float, help="default: by folders called train and test, else 0")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: %(default)s)")
    parser.add_argument("--groups", help="keep together: a regular expression on names, or a CSV with image,group")
    parser.add_argument("--classes", type=Path, help="CSV with label,class and, if they differ by image, image")
    parser.add_argument("--components", action="store_true", help="each piece of a label is an object (binary masks)")
    parser.add_argument("--intensity", help=f"for more than 8 bits or low contrast, as {DEFAULT}")
    parser.add_argument("--output", type=Path, default=datasets_root(), help="datasets root (default: %(default)s)")
    args = parser.parse_args()
    try:
        notes = convert_labelmaps(
            args.images,
            args.labels,
            args.output / args.name,
            val_fraction=args.val_fraction,
            test_fraction=args.test_fraction,
            seed=args.seed,
            groups=args.groups,
            classes=args.classes,
            intensity=args.intensity,
            split_components=args.components,
        )
    except (SourceError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if notes.num_left_out:
        sys.exit(2)


if __name__ == "__main__":
    main()
