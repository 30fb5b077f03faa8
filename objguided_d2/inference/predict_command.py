"""``objguided predict``: images to label images, measurements and files for other programs."""

import argparse
import sys
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from ..data.source_error import SourceError
from .options import HALO, ORIENTATIONS, PRECISIONS, TILE
from .writers import WRITERS

if TYPE_CHECKING:
    from .file_pipeline import PredictSettings
    from .model_spec import ModelSpec
    from .run import RunSummary

_EPILOG = """\
Examples:
  %(prog)s images/ --model model.zip --output results/
  %(prog)s "plate/*/*.tif" --model output/my_run --output results/ --save labels table rois --diameter 30
  %(prog)s slide.ome.tif --model model.zip --output results/ --pixel-size 0.5 --save labels geojson

The same command again goes on where a run ended. Exit status: 0 all files are done, 1 nothing could be begun, 2 some
or all files failed (errors.csv says why), the report could not be written or the arguments make no command, 130 or 143
stopped by Ctrl-C or SIGTERM.
"""


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argument_parser(prog)
    args = parser.parse_args(argv)
    try:
        settings = _settings(args)
    except ValueError as error:
        parser.error(str(error))
    from .run import predict_files, watch_files

    try:
        options = {"shard": args.shard, "progress": not args.quiet}
        if args.workers or args.scheduler or args.cluster:
            summary = _predict_on_cluster(args, settings, options)
        else:
            run = watch_files if args.watch else predict_files
            predictor = _model(args).load()
            if args.halo == "full":
                print(f"halo of the whole receptive field: {predictor.halo} pixels of the network")
            summary = run(args.input, predictor, args.output, settings, **options)
    except (ValueError, SourceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.output}: {summary}")
    return summary.exit_code


def argument_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Its arguments."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="image files, folders (with those in them) or globs")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the results")
    model = parser.add_argument_group("model")
    which = model.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="bundle file, run folder, or name of a shipped model")
    which.add_argument("--config-file", metavar="FILE", help="config of a model, with --weights")
    model.add_argument("--weights", metavar="FILE", help="weights file for --config-file or a run folder")
    model.add_argument("--device", help="as cpu or cuda:1 (default: CUDA where there is any)")
    what = parser.add_argument_group("results")
    what.add_argument(
        "--save",
        nargs="+",
        type=_formats,
        default=[["labels", "table"]],
        metavar="FORMAT",
        help=f"some of {', '.join(WRITERS)}; spaces or commas between them (default: labels table)",
    )
    what.add_argument("--parquet", action="store_true", help="tables as Parquet instead of CSV")
    what.add_argument(
        "--score", type=float, metavar="S", help="leave out objects below this score (default: the model's; 0: for AP)"
    )
    what.add_argument("--min-area", type=float, default=0.0, metavar="PIXELS", help="leave out smaller objects")
    what.add_argument("--max-area", type=float, metavar="PIXELS", help="leave out larger objects")
    what.add_argument("--exclude-border", action="store_true", help="leave out objects that touch the image's border")
    what.add_argument("--fill-holes", action="store_true", help="fill holes of masks")
    what.add_argument("--largest-piece", action="store_true", help="keep the largest piece of each mask")
    images = parser.add_argument_group("images")
    images.add_argument("--channels", metavar="C", help="by number from 0 or name, as 2 or DAPI or 2,1,0")
    images.add_argument(
        "--z", metavar="Z", help="of a z-stack: max, mean, a slice's number, or all as images of their own"
    )
    images.add_argument(
        "--frames",
        metavar="F",
        help="of a file of several, by number from 0 or name, as 2 or overview or 0,3 (default: all)",
    )
    images.add_argument("--level", type=int, metavar="N", help="of a pyramid (default: 0, full resolution)")
    size = images.add_mutually_exclusive_group()
    size.add_argument(
        "--scale",
        metavar="F",
        help="pixels in the network per pixel; 'config': the config's size, whatever pixel sizes say",
    )
    size.add_argument(
        "--diameter", metavar="PIXELS", help="of objects, to scale them to those of the training; or 'auto'"
    )
    images.add_argument(
        "--pixel-size",
        type=float,
        metavar="UM",
        help="micrometers per pixel (default: the file's own, where it says so)",
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--shard", type=_shard, metavar="I/N", help="predict the I-th of N parts of the files, for job arrays"
    )
    run.add_argument("--watch", action="store_true", help="go on with files that arrive, until Ctrl-C")
    run.add_argument(
        "--tile", type=int, default=TILE, help=f"side of tiles of large images (default: {TILE}; 0: no tiles)"
    )
    run.add_argument(
        "--halo",
        type=_halo,
        default=HALO,
        metavar="PIXELS",
        help=f"read around a tile (default: {HALO}; full: the receptive field, for the results of an untiled run)",
    )
    run.add_argument("--tile-batch", type=int, default=1, metavar="N", help="tiles in the network at once (default: 1)")
    run.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the network (default: the model's own); bfloat16 on a CPU only where it has that",
    )
    run.add_argument(
        "--orientations",
        type=int,
        choices=ORIENTATIONS,
        metavar="N",
        help="1, 2, 4 or 8 flips and turns of an image, averaged, each at the cost of one (default: the model's own)",
    )
    run.add_argument("--workers", type=_count, metavar="N", help="processes of this machine, or jobs of --cluster")
    run.add_argument("--scheduler", metavar="URL", help="use a running dask cluster, as tcp://host:8786")
    run.add_argument("--cluster", choices=["slurm", "lsf", "pbs"], help="start --workers jobs by dask-jobqueue")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _formats(text: str) -> list[str]:
    """The names of some output formats with commas between them."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in WRITERS:
            raise argparse.ArgumentTypeError(f"invalid choice: {name!r} (choose from {', '.join(WRITERS)})")
    return names


def _model(args: argparse.Namespace) -> "ModelSpec":
    from .model_spec import ModelSpec

    return ModelSpec(
        args.config_file or args.model,
        args.weights,
        args.device,
        args.score,
        args.tile,
        args.halo,
        args.tile_batch,
        args.precision,
        args.orientations,
    )


def _predict_on_cluster(args: argparse.Namespace, settings: "PredictSettings", options: dict) -> "RunSummary":
    from .cluster import connect, default_threads, predict_on_cluster

    threads = default_threads(args.workers) if args.workers and not (args.scheduler or args.cluster) else None
    with connect(args.workers, args.scheduler, args.cluster) as client:
        return predict_on_cluster(
            args.input, _model(args), args.output, settings, client=client, threads=threads, **options
        )


def _settings(args: argparse.Namespace) -> "PredictSettings":
    if args.config_file and not args.weights:
        raise ValueError("--config-file needs --weights")
    if args.watch and (args.workers or args.scheduler or args.cluster):
        raise ValueError("--watch runs in one process; leave out --workers, --scheduler and --cluster")
    from .file_pipeline import PredictSettings
    from .filters import Filters

    return PredictSettings(
        save=tuple(dict.fromkeys(chain.from_iterable(args.save))),
        filters=Filters(
            largest_piece=args.largest_piece,
            fill_holes=args.fill_holes,
            min_area=args.min_area,
            max_area=args.max_area,
            exclude_border=args.exclude_border,
        ),
        scale=_number_or(args.scale, "config", "--scale"),
        pixel_size=args.pixel_size,
        diameter=_number_or(args.diameter, "auto", "--diameter"),
        channels=args.channels,
        z=args.z,
        frames=args.frames,
        level=args.level,
        table_suffix=".parquet" if args.parquet else ".csv",
    )


def _number_or(text: str | None, word: str, option: str) -> float | str | None:
    if text is None or text == word:
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} takes a number or {word}, not {text}") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of processes")
    return int(text)


def _halo(text: str) -> int | str:
    if text != "full" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is neither a number of pixels nor full")
    return text if text == "full" else int(text)


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 1 to N")
    return int(number), int(count)
