"""``objguided export``: a trained model as one file, for ``objguided predict --model`` or programs of bioimage.io."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog, description=__doc__)
    parser.add_argument(
        "source",
        metavar="MODEL",
        help="OUTPUT_DIR of a training, a config with --weights, a bundle, or the name of a shipped model",
    )
    parser.add_argument("output", metavar="FILE", help="the file to write, as model.zip")
    parser.add_argument(
        "--format",
        choices=["bundle", "bioimageio"],
        default="bundle",
        help="bundle: for this program (default); bioimageio: a package of the BioImage Model Zoo",
    )
    parser.add_argument("--weights", metavar="FILE", help="(default: the run's best, else last model)")
    parser.add_argument("--pixel-size", type=float, metavar="UM", help="micrometers per pixel of the training images")
    parser.add_argument(
        "--score",
        type=float,
        metavar="S",
        help="score threshold (default: the bundle's, or the config's for label maps)",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="class names (default: those of the bundle, or of the training dataset)",
    )
    parser.add_argument(
        "--card", metavar="FILE", help="model card in Markdown (default: the bundle's, or one made from the config)"
    )
    zoo = parser.add_argument_group("with --format bioimageio")
    zoo.add_argument(
        "--license",
        metavar="ID",
        help="SPDX identifier of the license of the weights (default: Apache-2.0, of a shipped model CC0-1.0)",
    )
    zoo.add_argument("--author", nargs="+", default=[], metavar="NAME", help="who trained the model")
    zoo.add_argument(
        "--test-image",
        metavar="FILE",
        help="the package's own test runs on it; gray makes a package for gray images, color one for color images "
        "(default: synthetic nuclei, in color)",
    )
    args = parser.parse_args(argv)
    if args.format == "bundle" and (args.license is not None or args.author or args.test_image):
        parser.error("--license, --author and --test-image go with --format bioimageio")
    from ..data.source_error import SourceError
    from .pretrained import export_bioimageio, export_bundle

    try:
        if Path(args.output).is_dir():
            raise ValueError(f"{args.output} is a folder; name a file, as {Path(args.output) / 'model.zip'}")
        if args.license is not None and not args.license.strip():
            raise ValueError("--license is empty; give an SPDX identifier, as CC-BY-4.0, or leave it out")
        options = {
            "weights": args.weights,
            "pixel_size": args.pixel_size,
            "score_threshold": args.score,
            "class_names": tuple(args.classes) if args.classes else None,
            "card": _read_card(Path(args.card)) if args.card else None,
        }
        if args.format == "bundle":
            path = export_bundle(args.source, args.output, **options)
        else:
            path = export_bioimageio(
                args.source,
                args.output,
                license_id=args.license,
                authors=args.author,
                test_image=args.test_image,
                **options,
            )
    except (ValueError, SourceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
    return 0


def _read_card(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise ValueError(f"--card {path} cannot be read: {error.strerror}; give a file of Markdown text") from error
