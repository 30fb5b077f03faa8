"""Whether one setting beats another, over images and seeds: runs of both with the same seeds, compared pair by pair.

    python -m benchmarks.paired_seeds --dataset neurons_val --first with_1 with_2 with_3 \\
        --second without_1 without_2 without_3

Runs are what `objguided compare` takes. F1 at IoU 0.5, broken objects and boundary IoU (0 for objects that are not
found) are of instances of scores from each run's own best threshold on: thresholds of short trainings differ. Images,
and within each resample seeds, are drawn with replacement, the same for both settings.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from detectron2.data import Metadata, MetadataCatalog
from pycocotools.coco import COCO
from tabulate import tabulate

from objguided_d2.config import get_cfg
from objguided_d2.engine.dataset_checks import read_dataset
from objguided_d2.engine.errors import EngineError
from objguided_d2.evaluation.boundary import BoundaryEvaluator
from objguided_d2.evaluation.coco import match_coco
from objguided_d2.evaluation.fragments import WIDTHS, FragmentsEvaluator
from objguided_d2.evaluation.ground_truth import load_ground_truth
from objguided_d2.evaluation.matched_detections import MatchedDetections
from objguided_d2.evaluation.score_threshold import best_score_threshold
from objguided_d2.report.bootstrap import draw_weights, interval, paired_p_value
from objguided_d2.report.runs import Run, RunError, load_runs

# Indices of COCO's ten IoU thresholds.
_AP = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}


@dataclass(frozen=True)
class Measured:
    """What the numbers of one run are made of; N images, G true objects in all.

    Attributes:
        matched: of each class with objects.
        threshold: of scores, the best for F1 at IoU 0.5.
        image: (G,) index of each object's image.
        width: (G,) in pixels, see :func:`objguided_d2.evaluation.fragments.mean_width`.
        broken: (G,) bool, see :class:`objguided_d2.evaluation.fragments.FragmentsEvaluator`.
        boundary_iou: (G,) in [0, 1], 0 for an object that is not found.
    """

    matched: list[MatchedDetections]
    threshold: float
    image: np.ndarray
    width: np.ndarray
    broken: np.ndarray
    boundary_iou: np.ndarray

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Metric -> (B,) percent, or objects per 1,000; nan where undefined.

        Args:
            weights: (B, N) how often each image counts.
        """
        values = {}
        for name, thresholds in _AP.items():
            of_classes = [
                replace(one, true=one.true[thresholds], ignored=one.ignored[thresholds]).resampled(weights)
                for one in self.matched
            ]
            values[name] = 100 * np.nanmean(of_classes, axis=0)
        values["F1 at 0.5"] = 100 * self._f1(weights)
        values["broken, per 1,000"] = 1000 * self._mean(self.broken, weights)
        for name, (low, high) in {"": (0.0, np.inf), **WIDTHS}.items():
            chosen = (self.width >= low) & (self.width < high)
            values[f"boundary IoU, {np.count_nonzero(chosen)} {name} objects".replace("  ", " ")] = 100 * self._mean(
                self.boundary_iou, weights, chosen
            )
        return values

    def _mean(self, values: np.ndarray, weights: np.ndarray, chosen: slice | np.ndarray = slice(None)) -> np.ndarray:
        """(B,) mean of (G,) values of the chosen objects, nan without any."""
        counts = weights[:, self.image[chosen]]
        with np.errstate(invalid="ignore"):
            return (counts @ values[chosen]) / counts.sum(1)

    def _f1(self, weights: np.ndarray) -> np.ndarray:
        true, kept, objects = np.zeros((3, len(weights)))
        for one in self.matched:
            counted = (one.scores >= self.threshold) & ~one.ignored[0]
            of_images = weights[:, one.image]
            true += of_images @ (counted & one.true[0])
            kept += of_images @ counted
            objects += weights @ one.num_objects
        return 2 * true / (kept + objects)


@dataclass(frozen=True)
class Comparison:
    """Of one metric; S seeds.

    Attributes:
        first, second: (S,) values.
        low, high: 95 % interval of the mean difference, first less second, over images and seeds.
        p_value: two-sided, of no difference.
    """

    first: np.ndarray
    second: np.ndarray
    low: float
    high: float
    p_value: float

    @property
    def difference(self) -> float:
        return float(np.mean(self.first - self.second))


def measure(run: Run, truth: COCO, metadata: Metadata, *, limit: int, boundary_distance: int) -> Measured:
    """Match the predictions of a run to the objects of its dataset.

    Args:
        limit: best-scored detections of an image that count (TEST.DETECTIONS_PER_IMAGE).
        boundary_distance: pixels (TEST.BOUNDARY_DISTANCE).
    """
    results = [result for of_image in run.results.values() for result in of_image]
    matched = MatchedDetections.by_class(match_coco(truth, results, "segm", limit=run.num_counted(limit)))
    threshold = best_score_threshold(matched, run.score_threshold)
    boundary = BoundaryEvaluator(metadata.name, truth, distance=boundary_distance, score_threshold=threshold)
    fragments = FragmentsEvaluator(metadata.name, truth, score_threshold=threshold)
    image, objects, boundary_iou = [], [np.zeros((0, 2))], []
    for index, image_id in enumerate(sorted(truth.imgs)):
        compared = run.compared_image(image_id, truth, metadata, limit=limit, score_threshold=threshold)
        image += [index] * len(compared.true_masks)
        objects.append(fragments.measure(compared)[1])
        boundary_iou += boundary.measure(compared)[:, 2].tolist()
    width, broken = np.concatenate(objects).T
    return Measured(matched, threshold, np.array(image, int), width, broken > 0, np.array(boundary_iou))


def compare(
    first: Sequence[Measured], second: Sequence[Measured], num_images: int, resamples: int = 1000
) -> dict[str, Comparison]:
    """Metric -> comparison of S runs with S others, seed by seed."""
    # The images as they are, then the resamples.
    weights = np.concatenate([np.ones((1, num_images), np.int64), draw_weights(num_images, resamples)])
    drawn = np.random.default_rng(0).integers(len(first), size=(resamples, len(first)))
    values = [[measured.resampled(weights) for measured in setting] for setting in (first, second)]
    comparisons = {}
    for name in values[0][0]:
        of_seeds = [np.array([of_seed[name] for of_seed in setting]) for setting in values]
        # (S, B) to the mean of the seeds that were drawn in each resample
        means = [one[:, 1:][drawn, np.arange(resamples)[:, None]].mean(1) for one in of_seeds]
        if not np.isfinite(means[0] - means[1]).any():
            continue
        first_whole, second_whole = (one[:, 0] for one in of_seeds)
        difference = interval(means[0] - means[1])
        comparisons[name] = Comparison(first_whole, second_whole, *difference, paired_p_value(*means))
    return comparisons


def format_table(comparisons: Mapping[str, Comparison]) -> str:
    """A row per metric: mean and each seed of both settings, the difference with its interval, and p."""
    rows = [
        [name, _mean_and_each(one.first), _mean_and_each(one.second)]
        + [f"{one.difference:+.2f} ({one.low:+.2f} to {one.high:+.2f})", f"{one.p_value:.3f}"]
        for name, one in comparisons.items()
    ]
    headers = ["", "first (each seed)", "second (each seed)", "difference (95 %)", "p"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paired_seeds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", required=True, help="registered dataset that the runs were evaluated on")
    parser.add_argument("--first", type=Path, nargs="+", required=True, metavar="RUN", help="one for each seed")
    parser.add_argument("--second", type=Path, nargs="+", required=True, metavar="RUN", help="in the same order")
    args = parser.parse_args(argv)
    try:
        print(format_table(_compare_paths(args.dataset, args.first, args.second)))
    except (EngineError, RunError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _compare_paths(dataset: str, first: Sequence[Path], second: Sequence[Path]) -> dict[str, Comparison]:
    if len(first) != len(second):
        raise ValueError(f"--first has {len(first)} runs and --second {len(second)}; give one of each for every seed")
    read_dataset(dataset)
    cfg = get_cfg()
    with tempfile.TemporaryDirectory() as folder:
        truth = load_ground_truth(dataset, folder)
    if not truth.anns:
        raise ValueError(f"{dataset} has no objects to compare by")
    metadata = MetadataCatalog.get(dataset)
    runs = load_runs([*first, *second], dataset, truth)
    measured = [
        measure(
            run,
            truth,
            metadata,
            limit=(run.config or cfg).TEST.DETECTIONS_PER_IMAGE,
            boundary_distance=cfg.TEST.BOUNDARY_DISTANCE,
        )
        for run in runs
    ]
    return compare(measured[: len(first)], measured[len(first) :], len(truth.imgs))


def _mean_and_each(values: np.ndarray) -> str:
    return f"{values.mean():.2f} ({', '.join(f'{value:.1f}' for value in values)})"


if __name__ == "__main__":
    sys.exit(main())
