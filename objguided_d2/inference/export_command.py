"""``objguided export``: a trained model as one file, for ``objguided predict --model``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog, description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="OUTPUT_DIR of a training, or a config with --weights")
    parser.add_argument("output", metavar="FILE", help="the bundle, as model.zip")
    parser.add_argument("--weights", metavar="FILE", help="(default: the run's best, else last model)")
    parser.add_argument("--pixel-size", type=float, metavar="UM", help="micrometers per pixel of the training images")
    parser.add_argument(
        "--score", type=float, metavar="S", help="score threshold (default: the config's for label maps)"
    )
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME", help="class names (default: those of the training dataset)"
    )
    parser.add_argument("--card", metavar="FILE", help="model card in Markdown (default: one made from the config)")
    args = parser.parse_args(argv)
    from .pretrained import export_bundle

    try:
        path = export_bundle(
            args.run,
            args.output,
            weights=args.weights,
            pixel_size=args.pixel_size,
            score_threshold=args.score,
            class_names=tuple(args.classes) if args.classes else None,
            card=Path(args.card).read_text(encoding="utf-8") if args.card else None,
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
    return 0
