"""Write the label images of a peer, as ``objguided compare`` takes them.

    python -m benchmarks.peers.predict stardist --model output/peers/stardist \
        --annotations dsb2018/annotations/dsb2018_val.json --images dsb2018/val --output output/peers/stardist_val
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .dataset import add_dataset_arguments, image_files, read_image, write_labels
from .methods import METHODS, load


def main(argv: Sequence[str] | None = None) -> int:
    """Predict; the exit status is 1 for images that cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.predict", description="Write label images.")
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--model", required=True, help="what benchmarks.peers.train wrote")
    add_dataset_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for NAME.tif of each image")
    parser.add_argument("--resume", action="store_true", help="keep the label images that are there, of the same model")
    args = parser.parse_args(argv)
    try:
        predict = load(args.method, args.model, args.threads)
        for file in list(image_files(args.annotations, args.images))[: args.limit]:
            labels = args.output / file.relative_to(args.images).with_suffix(".tif")
            if not (args.resume and labels.exists()):
                write_labels(labels, predict(read_image(file)))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
