#!/usr/bin/env python
"""Draw the synthetic dataset: nuclei, neurons and leaves with exact masks (see datasets/README.md)."""

import argparse
from pathlib import Path

from objguided_d2.data import datasets_root
from objguided_d2.data.synthetic import KINDS, write_synthetic_dataset

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=datasets_root(), help="datasets root (default: %(default)s)")
    parser.add_argument("--name", default="synthetic", help="of the dataset (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="one class each (default: all)")
    parser.add_argument("--size", type=int, default=256, help="side of the images (default: %(default)s)")
    parser.add_argument("--num-train", type=int, default=200)
    parser.add_argument("--num-val", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write_synthetic_dataset(
        args.output / args.name,
        args.kinds,
        args.num_train,
        args.num_val,
        (args.size, args.size),
        args.seed,
        name=args.name,
    )
