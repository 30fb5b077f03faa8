"""The command ``check``: is a COCO dataset fit for training, and what does it hold?"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Check what the command line names; returns 1 if the file has errors."""
    parser = argparse.ArgumentParser(prog=prog, description="Is a COCO dataset fit for training, and what is in it?")
    parser.add_argument("dataset", help="registered name, or path of a COCO JSON file")
    parser.add_argument("--images", type=Path, help="folder of the images of a JSON file (default: the file's own)")
    parser.add_argument("--limit", type=int, default=500, help="TEST.DETECTIONS_PER_IMAGE (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="input pixels per image pixel (default: %(default)s)")
    parser.add_argument("--intensity", help="INPUT.INTENSITY of the training to come (default: none)")
    parser.add_argument("--sheet", type=Path, help="picture to write (default: <dataset>_check.png here)")
    args = parser.parse_args(argv)
    if not args.scale > 0:
        parser.error(f"--scale {args.scale} is not above 0")
    from .check import STRIDE, check_coco_file, draw_check_sheet, format_report
    from .pixels import IMAGE_SUFFIXES

    json_file, image_root = _locate(args.dataset, args.images)
    try:
        report = check_coco_file(json_file, image_root, limit=args.limit, scale=args.scale, intensity=args.intensity)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(json_file, format_report(report, STRIDE, args.scale), sep="\n\n")
    if report.errors:
        return 1
    sheet = args.sheet or Path(f"{json_file.stem}_check.png")
    if sheet.suffix.lower() not in IMAGE_SUFFIXES or not sheet.parent.is_dir():
        sys.exit(f"error: --sheet {sheet} must be a picture, as check.png, in a folder that exists")
    try:
        draw_check_sheet(json_file, image_root, sheet, args.intensity)
    except OSError as error:
        sys.exit(f"error: {sheet} cannot be written: {error.strerror}; give --sheet in another folder")
    print(f"\nLook at {sheet}")
    return 0


def _locate(dataset: str, images: Path | None) -> tuple[Path, Path]:
    if dataset.lower().endswith(".json"):
        json_file = Path(dataset)
        if not json_file.is_file():
            sys.exit(f"error: {json_file} does not exist")
        return json_file, images or json_file.parent
    from .builtin import dataset_files

    if images:
        sys.exit(f"error: --images goes with a JSON file; dataset {dataset!r} has a folder of its own, leave it out")
    try:
        json_file, image_root = dataset_files(dataset)
    except KeyError as error:
        sys.exit(f"error: {error.args[0]}")
    if not json_file.is_file():
        sys.exit(
            f"error: dataset {dataset!r} has no annotation file {json_file}; prepare it or set DETECTRON2_DATASETS"
        )
    return json_file, image_root
