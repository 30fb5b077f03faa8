"""``objguided finetune``: a trained model adapted to a few labeled images of yours."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .report import FinetuneReport

_EPILOG = """\
Examples:
  %(prog)s --model model.zip --images images/ --labels labels/ --output mine.zip --minutes 10
  %(prog)s --model output/my_run --images movie/ --labels labels/ --output mine/ --groups "^(movie\\d+)_"

From four labeled images on, some are held out: the bundle has the model that was best on them. Exit status: 0, or 1
if nothing could be done or training made the model no better, 130 or 143 stopped by Ctrl-C or SIGTERM.
"""


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command; returns its exit status."""
    args = argument_parser(prog).parse_args(argv)
    from ..engine.errors import EngineError, Interruption
    from .finetune import finetune

    try:
        report = finetune(
            args.model,
            args.images,
            args.labels,
            args.output,
            resume=args.resume,
            device=args.device,
            steps=args.steps,
            minutes=args.minutes,
            held_out_fraction=args.held_out,
            groups=args.groups,
            scale=args.scale,
            pixel_size=args.pixel_size,
            seed=args.seed,
            options=tuple(args.opts),
        )
    except Interruption as interruption:
        print("Stopped; the same command with --resume goes on", file=sys.stderr)
        return interruption.exit_status
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print_report(report)
    return 1 if report.is_better is False else 0


def argument_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Its arguments."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="bundle file, run folder, or name of a shipped model")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder or zip archive; those with labels train")
    parser.add_argument(
        "--labels",
        required=True,
        metavar="DIR",
        help="label images, mask files, Cellpose, ImageJ, LabelMe, GeoJSON, YOLO or COCO files, named as the images",
    )
    parser.add_argument("--output", required=True, metavar="PATH", help="the bundle, as mine.zip; or a folder")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    parser.add_argument("--device", help="as cpu or cuda:1 (default: CUDA where there is any)")
    training = parser.add_argument_group("training")
    training.add_argument("--minutes", type=float, help="for everything, in place of or besides --steps")
    training.add_argument("--steps", type=int, help="of training at most (default: 400, or what --minutes allow)")
    training.add_argument(
        "--held-out", type=float, default=0.2, metavar="F", help="fraction of the images to judge by (default: 0.2)"
    )
    training.add_argument(
        "--groups",
        metavar="RE|CSV",
        help="what images have in common that must not be divided, as a movie: a regular expression, or a table",
    )
    training.add_argument("--seed", type=int, default=0, help="of all that is random (default: 0)")
    size = parser.add_argument_group("size")
    size.add_argument(
        "--scale",
        type=float,
        metavar="F",
        help="pixels in the network per pixel (default: the model's, or one by the size of the objects)",
    )
    size.add_argument(
        "--pixel-size",
        type=float,
        metavar="UM",
        help="micrometers per pixel, to scale others by",
    )
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="pairs over the config of the training, as SOLVER.BASE_LR 0.0001",
    )
    return parser


def _print_report(report: "FinetuneReport") -> None:
    print(report.verdict())
    print(f"Model: {report.bundle}")
    print(f"Report and picture: {report.report}, {report.picture}")
