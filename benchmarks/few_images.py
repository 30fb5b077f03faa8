"""How good a model gets by how many labeled images: AP against 1, 2, 5, ... images, fine-tuned and from scratch.

    python -m benchmarks.few_images --model model.zip --train dsb2018_train --test dsb2018_val --output output/few

Run at the top of the repository. Each draw takes the first images of one random order, so more images hold the fewer
ones. All runs have the same budget, and each does what `objguided finetune` does, held-out images included. One run
after the other; the same command again goes on where it was stopped. Writes few_images.json, .md and .png.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
from detectron2.evaluation.testing import flatten_results_dict
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

from objguided_d2.data.builtin import dataset_files
from objguided_d2.data.source_error import SourceError
from objguided_d2.engine.ablation import format_mean, mean_and_spread
from objguided_d2.engine.dataset_checks import read_dataset
from objguided_d2.engine.errors import EngineError
from objguided_d2.finetuning.dataset import LabeledImages, write_part
from objguided_d2.finetuning.errors import FinetuneError
from objguided_d2.finetuning.finetune import finetune_coco
from objguided_d2.finetuning.recipe import METRICS
from objguided_d2.inference.evaluate_command import evaluate
from objguided_d2.utils.allocator import keep_freed_memory
from objguided_d2.utils.atomic_write import atomic_write, write_json, write_text

COUNTS = ("1", "2", "5", "10", "20", "40", "all")
_MAY_GROW = ("counts", "draws", "scratch_draws")
AS_IT_IS, FINETUNED, SCRATCH = "as it is", "fine-tuned", "from scratch"


@dataclass(frozen=True)
class Experiment:
    """
    Attributes:
        model: see ``objguided finetune --model``.
        train, test: registered datasets.
        only: images to train on have this text in their name; empty takes all.
        counts: numbers of images, "all" for all.
        draws: of images, for each count but all.
        scratch_draws: those of them that are trained on from scratch as well.
        steps, minutes: budget of each run.
        options: pairs KEY, VALUE over the config of each run.
    """

    model: str
    train: str
    test: str
    only: str = ""
    counts: tuple[str, ...] = COUNTS
    draws: int = 3
    scratch_draws: int = 3
    steps: int | None = None
    minutes: float | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A run. ``start`` is AS_IT_IS, FINETUNED or SCRATCH; ``metrics`` are those of the test set, percent."""

    start: str
    count: int
    draw: int
    steps: int
    minutes: float
    metrics: dict[str, float]


def run_experiment(experiment: Experiment, output: Path) -> list[Result]:
    """Make the runs that are not there yet: the whole curve of a draw, then the next.

    Args:
        output: holds a folder for each run; its ``result.json`` says that it has ended.

    Raises:
        ValueError, EngineError: if there is no such dataset or model, or the folder is of another experiment.
    """
    _check_same(experiment, output / "experiment.json")
    for name in (experiment.train, experiment.test):
        read_dataset(name)
    json_file, image_root = dataset_files(experiment.train)
    content = json.loads(json_file.read_bytes())
    used = {a["image_id"] for a in content["annotations"] if not a.get("iscrowd", 0)}
    images = [i for i in content["images"] if i["id"] in used and experiment.only in i["file_name"]]
    results = [_once(output / "as_it_is", lambda folder: _as_it_is(experiment, folder))]
    counts = sorted({len(images) if c == "all" else min(int(c), len(images)) for c in experiment.counts})
    for draw, count in itertools.product(range(experiment.draws), counts):
        if draw and count == len(images):
            continue
        order = np.random.default_rng(draw).permutation(len(images))[:count]
        chosen = {images[i]["id"] for i in order.tolist()}
        for start in (FINETUNED, SCRATCH) if draw < experiment.scratch_draws else (FINETUNED,):
            folder = output / f"{start.replace(' ', '_')}_{count}_{draw}"

            def train(folder: Path, start: str = start, draw: int = draw, chosen: set = chosen) -> Result:
                write_part(content, chosen, folder / "images.json")
                data = LabeledImages(folder / "images.json", image_root)
                return _train(experiment, data, start, len(chosen), draw, folder)

            results.append(_once(folder, train))
    return results


def format_table(results: Sequence[Result]) -> str:
    """A row per number of images: mean and spread of the AP over draws, and the fine-tuned one's fraction of all's."""
    most = max(result.count for result in results)
    complete = _aps(results, FINETUNED, most)
    rows = []
    for count in sorted({result.count for result in results}):
        if count == 0:
            (ap,) = _aps(results, AS_IT_IS, 0)
            rows.append(["0", format_mean(ap, np.nan), "", "", _fraction([ap], complete)])
            continue
        cells = []
        for start in (FINETUNED, SCRATCH):
            runs = [{"AP": ap} for ap in _aps(results, start, count)]
            cells.append(format_mean(*mean_and_spread(runs, "AP")) if runs else "")
        tuned = _aps(results, FINETUNED, count)
        rows.append([str(count), *cells, str(len(tuned)), _fraction(tuned, complete)])
    headers = ["images", "AP fine-tuned", "AP from scratch", "draws", "of all images' AP, %"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def draw_curves(axes: Axes, results: Sequence[Result]) -> None:
    """AP against the number of images, a point a draw and a line through the means; dotted the model as it is."""
    for start, color in ((FINETUNED, "#0072b2"), (SCRATCH, "#d55e00")):
        runs = [result for result in results if result.start == start]
        counts = sorted({result.count for result in runs})
        axes.plot([r.count for r in runs], [r.metrics["AP"] for r in runs], "o", markersize=3, color=color, alpha=0.6)
        axes.plot(counts, [np.mean(_aps(runs, start, count)) for count in counts], color=color, label=start)
    for ap in _aps(results, AS_IT_IS, 0):
        axes.axhline(ap, color="#808080", linestyle=":", label=f"the model {AS_IT_IS}")
    axes.set(xscale="log", xlabel="images that the training had", ylabel="segm AP, %", ylim=(0, None))
    counts = sorted({result.count for result in results} - {0})
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()


def curves_figure(by_title: Mapping[str, Sequence[Result]]) -> Figure:
    """A panel for each experiment, one legend for all."""
    columns = min(2, len(by_title))
    rows = -(-len(by_title) // columns)
    figure = Figure(figsize=(1 + 4.5 * columns, 0.5 + 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, results) in zip(panels, by_title.items()):
        draw_curves(axes, results)
        axes.set_title(title)
    for axes in panels[len(by_title) :]:
        axes.remove()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def plot_curves(by_title: Mapping[str, Sequence[Result]], path: Path) -> None:
    """Write :func:`curves_figure`; the suffix of the path is the format."""
    figure = curves_figure(by_title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def write_results(experiment: Experiment, results: Sequence[Result], output: Path) -> None:
    """``few_images.json``, ``.md`` and ``.png``."""
    content = {**asdict(experiment), "runs": [asdict(result) for result in results]}
    write_json(output / "few_images.json", content, indent=2)
    write_text(output / "few_images.md", format_table(results) + "\n")
    plot_curves({f"{experiment.train}, {experiment.test}": results}, output / "few_images.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and write its results; returns the exit status."""
    args = _parser().parse_args(argv)
    matplotlib.use("Agg")
    keep_freed_memory()
    experiment = Experiment(
        model=args.model,
        train=args.train,
        test=args.test,
        only=args.only,
        counts=tuple(args.counts),
        draws=args.draws,
        scratch_draws=args.draws if args.scratch_draws is None else args.scratch_draws,
        steps=args.steps,
        minutes=args.minutes,
        options=tuple(args.opts),
    )
    try:
        results = run_experiment(experiment, args.output)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on", file=sys.stderr)
        return 130
    except (EngineError, ValueError, KeyError, SourceError, OSError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 1
    write_results(experiment, results, args.output)
    print(format_table(results))
    return 0


def _train(experiment: Experiment, data: LabeledImages, start: str, count: int, draw: int, folder: Path) -> Result:
    bundle = folder / "model.zip"
    report = finetune_coco(
        experiment.model,
        data,
        bundle,
        resume=True,
        steps=experiment.steps,
        minutes=experiment.minutes,
        from_scratch=start == SCRATCH,
        seed=draw,
        options=experiment.options,
    )
    return Result(start, count, draw, report.steps, report.minutes, _test(experiment.test, bundle, folder))


def _as_it_is(experiment: Experiment, folder: Path) -> Result:
    return Result(AS_IT_IS, 0, 0, 0, 0.0, _test(experiment.test, experiment.model, folder))


def _test(dataset: str, model: str | Path, folder: Path) -> dict[str, float]:
    options = ["DATALOADER.NUM_WORKERS", "0"]
    options += ["TEST.EVALUATORS", "('coco', 'matching')", "TEST.EXPECTED_RESULTS", "[]"]
    results = flatten_results_dict(evaluate(str(model), dataset, str(folder), options=options))
    return {name: float(results[key]) for name, key in METRICS.items()}


def _once(folder: Path, run: Callable[[Path], Result]) -> Result:
    """The result in the folder, or that of ``run``, which is put there."""
    path = folder / "result.json"
    if path.is_file():
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    print(f"== {folder.name}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    result = run(folder)
    write_json(path, asdict(result), indent=2)
    return result


def _check_same(experiment: Experiment, path: Path) -> None:
    """More counts and draws may come to an experiment; with another model, data or budget it is another one."""
    fixed = {name: value for name, value in asdict(experiment).items() if name not in _MAY_GROW}
    fixed["options"] = list(experiment.options)  # As JSON has it.
    if path.is_file() and (former := json.loads(path.read_text(encoding="utf-8"))) != fixed:
        differing = ", ".join(name for name in fixed if fixed[name] != former.get(name))
        raise FinetuneError(f"{path.parent} is of an experiment with another {differing}; choose another --output")
    write_json(path, fixed, indent=2)


def _aps(results: Sequence[Result], start: str, count: int) -> list[float]:
    return [r.metrics["AP"] for r in results if r.start == start and r.count == count]


def _fraction(aps: Sequence[float], complete: Sequence[float]) -> str:
    if not aps or not complete or not np.mean(complete) > 0:
        return ""
    return f"{100 * np.mean(aps) / np.mean(complete):.0f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.few_images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="bundle file, run folder, or name of a shipped model")
    parser.add_argument("--train", required=True, metavar="NAME", help="registered dataset to take images from")
    parser.add_argument("--test", required=True, metavar="NAME", help="registered dataset to measure on")
    parser.add_argument("--only", default="", metavar="TEXT", help="train on images with this in their name alone")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of runs and results")
    parser.add_argument(
        "--counts", nargs="+", default=list(COUNTS), metavar="N", help="of images (default: %(default)s)"
    )
    parser.add_argument("--draws", type=int, default=3, help="of each number (default: %(default)s)")
    parser.add_argument(
        "--scratch-draws", type=int, metavar="N", help="draws to train on from scratch as well (default: all)"
    )
    parser.add_argument("--steps", type=int, help="of each training (default: that of finetune)")
    parser.add_argument("--minutes", type=float, help="of each training, in place of steps")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="over each training's config; not after --counts")
    return parser


if __name__ == "__main__":
    sys.exit(main())
