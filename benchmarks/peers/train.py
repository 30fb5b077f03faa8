"""Train a peer for so many minutes.

    python -m benchmarks.peers.train stardist --annotations dsb2018/annotations/dsb2018_train.json \
        --images dsb2018/train --minutes 40 --threads 2 --output output/peers/stardist
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .dataset import add_dataset_arguments, read_dataset
from .methods import TRAINED_HERE, train


def main(argv: Sequence[str] | None = None) -> int:
    """Train; the exit status is 1 for data that cannot be trained on."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.train", description="Train a peer.")
    parser.add_argument("method", choices=TRAINED_HERE)
    add_dataset_arguments(parser)
    parser.add_argument("--minutes", type=float, required=True, help="of training steps")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    args = parser.parse_args(argv)
    try:
        data = read_dataset(args.annotations, args.images, args.limit)
        train(args.method, data, args.minutes, args.threads, args.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
