"""Where the AP that is missing on a dataset goes: oracles, kinds of errors, kinds of images and sizes of objects.

    python -m benchmarks.missing_ap RESULTS --dataset dsb2018_val --score 0.3 --output missing_ap.md

RESULTS is the ``coco_instances_results.json`` that an evaluation wrote. Each oracle repairs one thing in these
predictions, all else as it is, and AP is computed anew; what it gains is what that error costs (the idea of Bolya et
al., "TIDE", ECCV 2020, with oracles of our own). A prediction *belongs* to the object of its image that it overlaps
most, if by an IoU of 0.1 or more.

- true scores: the IoU with its object is the score of each prediction;
- true masks: the best prediction of each object gets the object's mask;
- no spurious: predictions that belong to no object go;
- no duplicates: of the predictions that belong to one object, those but the best go;
- nothing missed: objects that no prediction belongs to are added, with the lowest score.
"""

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import Metadata, MetadataCatalog
from pycocotools.coco import COCO
from tabulate import tabulate

from objguided_d2.data.builtin import dataset_files
from objguided_d2.evaluation.coco import evaluate_coco
from objguided_d2.evaluation.compared_image import compare_image
from objguided_d2.evaluation.ground_truth import load_ground_truth
from objguided_d2.report.collect import check_dataset
from objguided_d2.report.error_kinds import KINDS, ErrorKinds, classify
from objguided_d2.report.runs import RunError
from objguided_d2.utils.atomic_write import write_text

from .image_kinds import diameters, image_kind

BELONGS_IOU = 0.1
LIMIT = 1000
SIZE_LIMITS = [8, 12, 20, 40]
SIZES = ["under 8", "8 to 12", "12 to 20", "20 to 40", "from 40"]


@dataclass
class Predictions:
    """P predictions of one image and the G objects that are no crowd.

    Attributes:
        results: P records of COCO's format.
        truth: G records of COCO's format.
        iou: (P, G) of the masks.
    """

    results: list[dict]
    truth: list[dict]
    iou: np.ndarray

    @property
    def owner(self) -> np.ndarray:
        """(P,) the object that each prediction belongs to, -1 for none."""
        if not self.iou.size:
            return np.full(len(self.results), -1)
        return np.where(self.iou.max(1) >= BELONGS_IOU, self.iou.argmax(1), -1)

    def best_of_each_object(self) -> np.ndarray:
        """(P,) bool: no prediction of the same object has more IoU with it."""
        owner, best = self.owner, np.zeros(len(self.results), bool)
        for g in np.unique(owner[owner >= 0]):
            mine = np.flatnonzero(owner == g)
            best[mine[self.iou[mine, g].argmax()]] = True
        return best


def true_scores(image: Predictions) -> list[dict]:
    iou = image.iou.max(1, initial=0.0)
    return [{**result, "score": float(value)} for result, value in zip(image.results, iou)]


def true_masks(image: Predictions) -> list[dict]:
    best, owner = image.best_of_each_object(), image.owner
    return [
        {**result, "segmentation": image.truth[owner[i]]["segmentation"]} if best[i] else result
        for i, result in enumerate(image.results)
    ]


def no_spurious(image: Predictions) -> list[dict]:
    return [result for result, owner in zip(image.results, image.owner) if owner >= 0]


def no_duplicates(image: Predictions) -> list[dict]:
    best, owner = image.best_of_each_object(), image.owner
    return [result for i, result in enumerate(image.results) if best[i] or owner[i] < 0]


def nothing_missed(image: Predictions) -> list[dict]:
    missed = set(range(len(image.truth))) - set(image.owner.tolist())
    keys = ("image_id", "category_id", "segmentation")
    return image.results + [{**{key: image.truth[g][key] for key in keys}, "score": 0.0} for g in sorted(missed)]


ORACLES: dict[str, Callable[[Predictions], list[dict]]] = {
    "as predicted": lambda image: image.results,
    "true scores": true_scores,
    "true masks": true_masks,
    "no spurious": no_spurious,
    "no duplicates": no_duplicates,
    "nothing missed": nothing_missed,
}


def load_predictions(ground_truth: COCO, results: Sequence[dict]) -> dict[int, Predictions]:
    """Predictions of every image of the dataset, by its id."""
    by_image = defaultdict(list)
    for result in results:
        by_image[result["image_id"]].append({key: result[key] for key in result if key != "bbox"})
    images = {}
    for image_id in ground_truth.imgs:
        objects = [a for a in ground_truth.imgToAnns[image_id] if not a.get("iscrowd", 0)]
        truth = [{**a, "segmentation": ground_truth.annToRLE(a)} for a in objects]
        own = by_image.get(image_id, [])
        iou = mask_util.iou([r["segmentation"] for r in own], [t["segmentation"] for t in truth], [0] * len(truth))
        images[image_id] = Predictions(own, truth, np.asarray(iou).reshape(len(own), len(truth)))
    return images


def average_precision(ground_truth: COCO, results: Sequence[dict], image_ids: Sequence | None = None) -> list[float]:
    """Mask AP, AP50 and AP75 in percent."""
    stats = evaluate_coco(ground_truth, results, "segm", limit=LIMIT, image_ids=image_ids).stats
    return [round(100 * float(value), 1) for value in stats[:3]]


def analyze(results: Sequence[dict], dataset: str, score: float) -> str:
    """The report in Markdown.

    Args:
        results: predictions in COCO's format, of one class.
        dataset: registered name.
        score: label maps, for the kinds of errors, have the predictions from this score on.
    """
    ground_truth = load_ground_truth(dataset, tempfile.gettempdir())
    _, image_root = dataset_files(dataset)
    images = load_predictions(ground_truth, results)
    kinds: dict[str, list] = defaultdict(list)
    by_kind: dict[str, Counter] = defaultdict(Counter)
    by_size: dict[str, Counter] = defaultdict(Counter)
    for image_id, image in images.items():
        path = image_root / ground_truth.imgs[image_id]["file_name"]
        areas = [mask_util.area(t["segmentation"]) for t in image.truth]
        kind = image_kind(str(path), areas)
        kinds[kind].append(image_id)
        errors = errors_above(image, ground_truth, MetadataCatalog.get(dataset), image_id, score)
        by_kind[kind].update(errors.count())
        for error, diameter in zip(errors.true, diameters(areas)):
            by_size[SIZES[int(np.searchsorted(SIZE_LIMITS, diameter, side="right"))]][KINDS[error]] += 1

    repaired = {
        name: average_precision(ground_truth, [r for image in images.values() for r in oracle(image)])
        for name, oracle in ORACLES.items()
    }
    plain = repaired["as predicted"][0]
    oracle_rows = [[name, *values, f"{values[0] - plain:+.1f}"] for name, values in repaired.items()]
    kind_rows = []
    for kind, ids in sorted(kinds.items(), key=lambda item: -len(item[1])):
        values = average_precision(ground_truth, results, ids)
        kind_rows.append([kind, len(ids), *values, *(by_kind[kind][name] for name in KINDS)])
    of_objects = [name for name in KINDS if name != "spurious"]
    size_rows = [
        [size, by_size[size].total(), *(100 * by_size[size][name] / by_size[size].total() for name in of_objects)]
        for size in SIZES
        if size in by_size
    ]
    return "\n\n".join(
        [
            "## What each repair is worth",
            _table(["oracle", "AP", "AP50", "AP75", "gain in AP"], oracle_rows),
            f"## By kind of image; objects of each kind of error (spurious: predictions) at score {score:g}",
            _table(["images", "number", "AP", "AP50", "AP75", *KINDS], kind_rows),
            "## By diameter of the object: percent of each kind of error",
            _table(["pixels", "objects", *of_objects], size_rows) + "\n",
        ]
    )


def errors_above(image: Predictions, ground_truth: COCO, metadata: Metadata, image_id: Any, score: float) -> ErrorKinds:
    """The kinds of errors of the label map of the predictions from ``score`` on."""
    kept = [result for result in image.results if result["score"] >= score]
    masks, scores = [result["segmentation"] for result in kept], np.array([result["score"] for result in kept])
    return classify(compare_image(ground_truth, metadata, image_id, masks, scores, np.zeros(len(kept), int)))


def _table(header: list[str], rows: list[list]) -> str:
    return tabulate(rows, header, tablefmt="github", floatfmt=".1f")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.missing_ap", description=__doc__.splitlines()[0])
    parser.add_argument("results", metavar="RESULTS", help="coco_instances_results.json")
    parser.add_argument("--dataset", default="dsb2018_val", help="registered or prepared (default: %(default)s)")
    parser.add_argument("--score", type=float, default=0.3, help="threshold of the label maps (default: %(default)s)")
    parser.add_argument("--output", required=True, help="Markdown file")
    args = parser.parse_args(argv)
    try:
        check_dataset(args.dataset)
    except RunError as error:
        parser.error(str(error))
    text = analyze(json.loads(Path(args.results).read_text(encoding="utf-8")), args.dataset, args.score)
    write_text(args.output, text)
    print(text)


if __name__ == "__main__":
    main()
