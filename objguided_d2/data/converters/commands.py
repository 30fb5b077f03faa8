"""The command ``prepare``: other people's formats, or synthetic images, to COCO JSON under the datasets root.

The converters are imported when they run: the help needs none of their libraries.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..root_folder import datasets_root
from ..source_error import SourceError

if TYPE_CHECKING:
    from .conversion import ConversionNotes


@dataclass(frozen=True)
class Preparation:
    """One ``prepare NAME``. description: a line of help; declare: adds its arguments; convert: does the work."""

    description: str
    declare: Callable[[ArgumentParser], None]
    convert: Callable[[Namespace], ConversionNotes]


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the preparation that the first argument names.

    Args:
        argv: the arguments after the command's name; None is those of this process.
        prog: name of the command in its help.

    Returns:
        The exit status: 0 if all was converted, 2 if something was left out, 1 if nothing could be converted. Wrong
        arguments raise SystemExit(2).
    """
    parser = ArgumentParser(prog=prog, description="Convert images and annotations to COCO JSON under a datasets root.")
    choices = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, preparation in PREPARATIONS.items():
        choice = choices.add_parser(name, help=preparation.description, description=preparation.description)
        preparation.declare(choice)
        choice.add_argument("--output", type=Path, default=datasets_root(), help="datasets root (default: %(default)s)")
        choice.set_defaults(convert=preparation.convert)
    args = parser.parse_args(argv)
    try:
        notes = args.convert(args)
    except (SourceError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 2 if notes.num_left_out else 0


def _declare_dsb2018(parser: ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--source", type=Path, help="stage1_train.zip or the folder it unpacks to")
    source.add_argument(
        "--stage1-test", type=Path, help="stage1_test with its masks, folder or zip archive: makes dsb2018_extra_train"
    )


def _convert_dsb2018(args: Namespace) -> ConversionNotes:
    from .dsb2018 import convert_dsb2018, convert_dsb2018_extra

    if args.stage1_test:
        return convert_dsb2018_extra(args.stage1_test, args.output / "dsb2018_extra")
    return convert_dsb2018(args.source, args.output / "dsb2018")


def _declare_bbbc039(parser: ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="folder or zip archive with images/ and masks/")
    parser.add_argument("--keep-dsb2018", action="store_true", help="keep the 43 images that are also in DSB2018")
    parser.add_argument(
        "--min-area", type=int, default=0, help="ignore smaller objects, in pixels: micronuclei (default: %(default)s)"
    )
    parser.add_argument("--intensity", help="how 16 bits become 8 (default: percentile:0.1,99.9)")


def _convert_bbbc039(args: Namespace) -> ConversionNotes:
    from ..intensity import DEFAULT
    from .bbbc039 import convert_bbbc039

    return convert_bbbc039(
        args.source,
        args.output / "bbbc039",
        keep_dsb2018=args.keep_dsb2018,
        min_area=args.min_area,
        intensity=args.intensity or DEFAULT,
    )


def _declare_plant(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--source", type=Path, required=True, help="folder or zip archive of PNG files, or of HDF5 files"
    )
    parser.add_argument("--name", default="plant", help="dataset name, plant or lsc (default: %(default)s)")
    parser.add_argument("--val-fraction", type=float, default=0.2, help="default: %(default)s")
    parser.add_argument("--test-fraction", type=float, default=0.2, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: %(default)s)")


def _convert_plant(args: Namespace) -> ConversionNotes:
    from .plant import convert_plants

    return convert_plants(
        args.source,
        args.output / args.name,
        val_fraction=args.val_fraction,
        test_fraction=args.test_fraction,
        seed=args.seed,
    )


def _declare_ctc(parser: ArgumentParser) -> None:
    truths = ("gold", "silver", "both")
    parser.add_argument("--source", type=Path, required=True, help="folder or zip archive with NN/, NN_GT/, NN_ST/")
    parser.add_argument("--name", help="dataset name (default: ctc_<source>)")
    parser.add_argument("--train-truth", choices=truths, default="silver", help="default: %(default)s")
    parser.add_argument("--val-truth", choices=truths, default="both", help="default: %(default)s")
    parser.add_argument("--val-sequences", nargs="*", default=(), help="sequences to hold out, as 02")
    parser.add_argument(
        "--val-fraction", type=float, default=0.2, help="else the last part of each (default: %(default)s)"
    )
    parser.add_argument("--gap", type=int, default=2, help="frames dropped between the parts (default: %(default)s)")
    parser.add_argument("--intensity", help="for more than 8 bits (default: percentile:0.1,99.9)")
    parser.add_argument("--border", type=int, help="strip without truth, pixels (default: the challenge's)")


def _convert_ctc(args: Namespace) -> ConversionNotes:
    from ..intensity import DEFAULT
    from .ctc import convert_ctc

    return convert_ctc(
        args.source,
        args.output / (args.name or f"ctc_{args.source.resolve().stem}"),
        train_truth=args.train_truth,
        val_truth=args.val_truth,
        val_sequences=args.val_sequences,
        val_fraction=args.val_fraction,
        gap=args.gap,
        intensity=args.intensity or DEFAULT,
        border=args.border,
    )


def _declare_labelmaps(parser: ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, help="folder or zip archive")
    parser.add_argument("--labels", type=Path, required=True, help="folder or zip archive, or a COCO JSON file")
    parser.add_argument("--name", default="custom", help="dataset name (default: %(default)s)")
    parser.add_argument("--val-fraction", type=float, help="default: by folders called train and val, else 0.2")
    parser.add_argument("--test-fraction", type=float, help="default: by folders called train and test, else 0")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: %(default)s)")
    parser.add_argument("--groups", help="keep together: a regular expression on names, or a CSV with image,group")
    parser.add_argument("--classes", type=Path, help="CSV with label,class and, if they differ by image, image")
    parser.add_argument("--components", action="store_true", help="each piece of a label is an object (binary masks)")
    parser.add_argument("--intensity", help="for more than 8 bits or low contrast, as percentile:0.1,99.9")


def _convert_labelmaps(args: Namespace) -> ConversionNotes:
    from .labelmaps import convert_labelmaps

    return convert_labelmaps(
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


def _declare_synthetic(parser: ArgumentParser) -> None:
    kinds = ("nuclei", "neurons", "leaves")
    parser.add_argument("--name", default="synthetic", help="dataset name (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds, help="one class each (default: all)")
    parser.add_argument("--size", type=int, default=256, help="side of the images (default: %(default)s)")
    parser.add_argument("--num-train", type=int, default=200, help="images (default: %(default)s)")
    parser.add_argument("--num-val", type=int, default=40, help="images (default: %(default)s)")
    parser.add_argument("--num-test", type=int, default=0, help="images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the images (default: %(default)s)")


def _convert_synthetic(args: Namespace) -> ConversionNotes:
    from ..synthetic import write_synthetic_dataset

    return write_synthetic_dataset(
        args.output / args.name,
        args.kinds,
        args.num_train,
        args.num_val,
        args.num_test,
        size=(args.size, args.size),
        seed=args.seed,
    )


PREPARATIONS = {
    "dsb2018": Preparation("2018 Data Science Bowl, stage 1", _declare_dsb2018, _convert_dsb2018),
    "bbbc039": Preparation("BBBC039, fluorescent nuclei of U2OS cells", _declare_bbbc039, _convert_bbbc039),
    "plant": Preparation("Plant Phenotyping or Leaf Segmentation Challenge images", _declare_plant, _convert_plant),
    "ctc": Preparation("a 2D dataset of the Cell Tracking Challenge", _declare_ctc, _convert_ctc),
    "labelmaps": Preparation(
        "a custom dataset: label images, mask files, LabelMe or COCO outlines", _declare_labelmaps, _convert_labelmaps
    ),
    "synthetic": Preparation(
        "synthetic nuclei, neurons and leaves with exact masks", _declare_synthetic, _convert_synthetic
    ),
}
