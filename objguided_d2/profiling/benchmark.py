"""The command ``benchmark``: models of any config side by side -> ``benchmark.md`` and ``benchmark.json``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config_files import UnknownConfigError, get_config_file
from ..engine.errors import WeightsError
from .options import DEFAULT_ROUNDS, PRECISIONS, BenchmarkError

# Of what imports torch, the parser has none.
if TYPE_CHECKING:
    from .model_benchmark import BenchmarkResult
    from .model_under_test import ModelSpec

DESCRIPTION = """Measure models side by side: speed of inference or training, parameters, FLOPs, memory, time by stage.

    --config-file A.yaml B.yaml --size 512 --given-boxes 100 --output output/benchmark
    --config-file A.yaml B.yaml --dataset dsb2018_val --training --output output/benchmark
"""
GIVEN_BOX_SIDE = 30  # pixels, on average
TRAINING_STEPS = 2  # per round
HEADERS = ("speedup over the first", "parameters (M)", "GFLOP", "peak MiB", "ms per image by stage")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Measure the models that the command line names, print their table and write it.

    Args:
        argv: the arguments after the command's name; None is those of this process.
        prog: name of the command in its help.

    Returns:
        The exit status: 1 for configs, weights or datasets that cannot be used. Wrong arguments raise SystemExit(2).
    """
    parser = _parser(prog)
    args = parser.parse_args(argv)
    _check_arguments(parser, args)
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        print(_measure(args))
    except (BenchmarkError, WeightsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(args: argparse.Namespace) -> str:
    from .given_boxes import random_boxes
    from .inputs import DatasetImages, RandomImage, dataset_records
    from .model_benchmark import benchmark_inference, benchmark_training
    from .table import write_tables

    specs = _specs(args)
    records = dataset_records(args.dataset, args.num_images) if args.dataset else []
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchmarkError(f"--output {args.output} cannot be made: {error.strerror}; give another folder") from error
    if args.training:
        results = benchmark_training(specs, records, TRAINING_STEPS, args.rounds)
        count, unit = TRAINING_STEPS, "training steps/s"
    else:
        given = [random_boxes(args.given_boxes, GIVEN_BOX_SIDE, args.size)] if args.given_boxes else None
        images = DatasetImages(tuple(records)) if records else RandomImage(args.size)
        results = benchmark_inference(specs, images, given=given, rounds=args.rounds)
        count, unit = len(records) or 1, "images/s"
    notes = f"Medians over {args.rounds} interleaved rounds, with quartiles."
    rows = [_row(result, results[0], count) for result in results]
    numbers = [vars(result) | {"seconds": result.seconds.seconds} for result in results]
    return write_tables(args.output, "Models", ("model", unit, *HEADERS), rows, notes, numbers)


def add_measurement_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of every benchmark: --output, --rounds and --threads."""
    parser.add_argument("--output", type=Path, required=True, help="folder for benchmark.md and benchmark.json")
    parser.add_argument(
        "--rounds", type=_positive, default=DEFAULT_ROUNDS, help="interleaved rounds (default: %(default)s)"
    )
    parser.add_argument("--threads", type=_positive, help="of PyTorch on the CPU (default: all cores)")


def _parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-file", nargs="+", required=True, metavar="CONFIG", help="models to measure, names or paths"
    )
    add_measurement_arguments(parser)
    parser.add_argument("--weights", nargs="+", help="a file for each config; random without")
    parser.add_argument("--precision", nargs="+", choices=list(PRECISIONS), default=["float32"])
    parser.add_argument("--size", type=_positive, default=512, help="side of a random image (default: %(default)s)")
    parser.add_argument(
        "--given-boxes",
        type=_positive,
        help=f"boxes of {GIVEN_BOX_SIDE} px that all mask stages get in place of detections",
    )
    parser.add_argument("--training", action="store_true", help="training steps in place of inference; needs --dataset")
    parser.add_argument("--dataset", help="registered name, for its images in place of a random one")
    parser.add_argument(
        "--num-images", type=_positive, default=12, help="evenly taken from --dataset (default: %(default)s)"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.weights and len(args.weights) != len(args.config_file):
        parser.error("--weights takes one file for each --config-file")
    if args.training and not args.dataset:
        parser.error("--training needs --dataset, whose masks the models train on")
    if args.given_boxes and (args.dataset or args.training):
        parser.error("--given-boxes goes with a random image of --size, not with --dataset or --training")
    if args.given_boxes and args.size < 2 * GIVEN_BOX_SIDE:
        parser.error(f"--given-boxes needs --size of at least {2 * GIVEN_BOX_SIDE}, to have room for the boxes")


def _specs(args: argparse.Namespace) -> "list[ModelSpec]":
    from .model_under_test import ModelSpec

    weights = args.weights or [""] * len(args.config_file)
    files = [_config_file(config) for config in args.config_file]
    for file in weights:
        if file and not Path(file).is_file():
            raise BenchmarkError(f"--weights {file} does not exist; give a checkpoint file")
    return [
        ModelSpec(f"{label} {precision}", config, file, precision)
        for label, config, file in zip(_labels(args.config_file, weights), files, weights)
        for precision in dict.fromkeys(args.precision)
    ]


def _config_file(name: str) -> Path:
    from ..config import CONFIG_ERRORS, config_error_reason, get_cfg

    try:
        path = Path(get_config_file(name))
        get_cfg(path)
    except UnknownConfigError as error:
        raise BenchmarkError(f"--config-file: {error}") from error
    except CONFIG_ERRORS as error:
        raise BenchmarkError(f"--config-file {path} cannot be used: {config_error_reason(error)}") from error
    return path


def _labels(configs: Sequence[str], weights: Sequence[str]) -> list[str]:
    """Unique names of the models: the configs' own where these differ, else with their folders, else with weights."""
    paths = [config.removesuffix(".yaml") for config in configs]
    for labels in (
        [Path(path).name for path in paths],
        paths,
        [f"{path} with {file or 'random weights'}" for path, file in zip(paths, weights)],
    ):
        if len(set(labels)) == len(labels):
            return labels
    raise BenchmarkError("--config-file names a model twice; give each pair of config and weights once")


def _row(result: "BenchmarkResult", first: "BenchmarkResult", count: int) -> list[str]:
    """Of the table; ``count`` images or training steps per round."""
    fastest, slowest = result.seconds.quartiles
    speedup, _, _ = result.seconds.times_faster_than(first.seconds)
    return [
        result.name,
        f"{count / result.seconds.median:.2f} ({count / slowest:.2f} - {count / fastest:.2f})",
        f"{speedup:.2f} x",
        f"{result.parameters:.2f}",
        "-" if result.gflops is None else f"{result.gflops:.1f}",
        f"{result.peak_megabytes:.0f}",
        ", ".join(f"{stage} {1000 * seconds / count:.0f}" for stage, seconds in result.stages.items()) or "-",
    ]
