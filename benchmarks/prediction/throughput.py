"""What a run over files costs above the bare model; what it gains to prepare a model for a CPU, and to leave out
centers that cannot reach the score threshold.

    python -m benchmarks.prediction.throughput --model output/my_run --images folder --threads 1 --output output/speed

Calls run in interleaved rounds in one process. Wall time says how long one waits; CPU time, which other load on the
machine does not change, how much work there is. Exits with 1 if a run over files has less than 85 % of the images/s of
the bare model.
"""

import argparse
import copy
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.rows import Row
from objguided_d2.inference.cpu_model import prepare_for_cpu
from objguided_d2.inference.file_pipeline import PredictSettings
from objguided_d2.inference.image_source import open_image
from objguided_d2.inference.inputs import list_inputs
from objguided_d2.inference.predictor import Predictor
from objguided_d2.inference.run import predict_files
from objguided_d2.inference.score_bounds import centers_that_count
from objguided_d2.modeling import ragged_masks
from objguided_d2.profiling.benchmark import add_measurement_arguments
from objguided_d2.profiling.table import write_tables
from objguided_d2.utils.evenly_spaced import evenly_spaced

WHOLE_RUN, BARE = "objguided predict", "bare model"
UNPREPARED, ALL_CENTERS = "bare model, not prepared", "bare model, all centers"
TARGET = 0.85
# What, against what, the least ratio of images/s.
COMPARISONS = ((BARE, UNPREPARED, None), (BARE, ALL_CENTERS, None), (WHOLE_RUN, BARE, TARGET))
HEADERS = ("what", "target", "measured", "met")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the table.

    Returns:
        The exit status: 1 if the target is missed.
    """
    args = _parser().parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    # A warning for each image that the config makes much smaller would be no news here.
    logging.getLogger("objguided_d2").setLevel(logging.ERROR)
    files = [path for path, _ in list_inputs(args.images)]
    files = evenly_spaced(files, args.num_images)
    plain = Predictor.from_pretrained(args.model, device=args.device, prepare=False)
    calls: dict[str, Callable[[], object]] = {}
    if plain.device.type == "cpu":
        calls[UNPREPARED] = _bare(plain, files, plain.score_threshold)
        model = prepare_for_cpu(copy.deepcopy(plain.model))
    else:
        model = plain.model
    predictor = Predictor(plain.cfg, model, info=plain.info)
    calls[ALL_CENTERS] = _bare(predictor, files, 0.0)
    calls[BARE] = _bare(predictor, files, predictor.score_threshold)
    calls[WHOLE_RUN] = _run(predictor, files, tuple(args.save))
    seconds = _measure(calls, args.rounds, predictor.device)
    rows = list(_rows(seconds, len(files), args.save))
    notes = f"{len(files)} files, medians over {args.rounds} interleaved rounds."
    table = [(row.what, row.target, row.measured, "yes" if row.met else "no") for row in rows]
    print(write_tables(args.output, "Prediction", HEADERS, table, notes, [vars(row) for row in rows]))
    return int(not all(row.met for row in rows))


def _bare(predictor: Predictor, files: Sequence[Path], score_threshold: float) -> Callable[[], object]:
    """The network and its post-processing, image by image, on inputs that are there already."""
    inputs = []
    for path in files:
        with open_image(path) as source:
            whole = predictor.prepare(source).whole
            if whole is None:
                raise SystemExit(f"error: {path} is predicted in tiles; give smaller images")
            inputs.append({"image": whole, "height": source.shape[0], "width": source.shape[1]})

    def call() -> None:
        model = predictor.model
        with torch.no_grad(), ragged_masks(model), centers_that_count(model, score_threshold):
            for one in inputs:
                model([one])

    return call


def _run(predictor: Predictor, files: Sequence[Path], save: tuple[str, ...]) -> Callable[[], object]:
    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            summary = predict_files(files, predictor, folder, PredictSettings(save=save), progress=False)
        if summary.count("done") != len(files):
            raise SystemExit(f"error: {summary}")

    return call


def _measure(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> seconds of each round, by the wall and of the CPU over all threads; a round before them warms up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: tuple(np.array(values[1:]).T) for name, values in times.items()}


def _rows(seconds: Mapping[str, tuple[np.ndarray, np.ndarray]], count: int, save: Sequence[str]):
    for ours, baseline, target in COMPARISONS:
        if baseline not in seconds:
            continue
        ratios = {}
        for kind, mine, theirs in zip(("wall", "CPU"), seconds[ours], seconds[baseline]):
            ratios[kind] = np.median(theirs / mine)
        rates = [f"{count / np.median(seconds[name][0]):.2f}" for name in (ours, baseline)]
        per_cpu = [f"{count / np.median(seconds[name][1]):.2f}" for name in (ours, baseline)]
        what = f"{ours} --save {' '.join(save)}" if ours == WHOLE_RUN else ours
        yield Row(
            f"{what} against {baseline}",
            f">= {target:.0%} of its images/s" if target else "no target",
            f"{ratios['wall']:.0%} by the wall ({' against '.join(rates)} images/s), "
            f"{ratios['CPU']:.0%} by CPU time ({' against '.join(per_cpu)} images per CPU second)",
            target is None or bool(ratios["wall"] >= target),
            {"ratio_wall": ratios["wall"], "ratio_cpu": ratios["CPU"], "images": count}
            | {name: {"wall": list(wall), "cpu": list(cpu)} for name, (wall, cpu) in seconds.items()},
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prediction.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_measurement_arguments(parser)
    parser.add_argument("--model", required=True, help="bundle, run folder or name of a shipped model")
    parser.add_argument("--images", nargs="+", required=True, help="files, folders or globs")
    parser.add_argument("--num-images", type=int, default=24, help="evenly taken of them (default: %(default)s)")
    parser.add_argument("--save", nargs="+", default=["labels", "table"], help="outputs (default: labels table)")
    parser.add_argument("--device", help="as cpu or cuda:1 (default: CUDA where there is any)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
