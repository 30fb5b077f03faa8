"""Images scaled by the size of their objects in place of that of the image: COCO results of each way, and their AP.

    python -m benchmarks.object_scale --model nuclei --dataset dsb2018_val --output output/object_scale
    objguided compare output/object_scale/config.json output/object_scale/auto.json --dataset dsb2018_val --no-speed \
        --output output/object_scale/page

- config: every image at the size that the model's config gives it (INPUT.MIN_SIZE_TEST and the like);
- own: at its own size, ``--scale 1``;
- auto: so that objects are as large as those of the training, their diameter estimated, ``--diameter auto``;
- true: the same with the true median diameter of its objects, which nobody has at hand.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from tabulate import tabulate
from tqdm import tqdm

from objguided_d2 import Predictor
from objguided_d2.data.pixels import read_image
from objguided_d2.evaluation.coco import evaluate_coco
from objguided_d2.evaluation.ground_truth import load_ground_truth
from objguided_d2.inference.image_scale import training_diameter
from objguided_d2.inference.prediction import Prediction
from objguided_d2.inference.writers.coco import to_coco
from objguided_d2.report.collect import check_dataset
from objguided_d2.utils.atomic_write import write_json

from .image_kinds import diameters

# The arguments of a prediction, by the true diameters of the objects of the image.
WAYS: dict[str, Callable[[np.ndarray], dict[str, Any]]] = {
    "config": lambda true: {},
    "own": lambda true: {"scale": 1.0},
    "auto": lambda true: {"diameter": "auto"},
    "true": lambda true: {"diameter": float(np.median(true))} if len(true) else {},
}


def predict(usual: Predictor, everything: Predictor, image: np.ndarray, arguments: dict[str, Any]) -> Prediction:
    """All detections, as AP wants them; a diameter is estimated from those of scores from the usual threshold on.

    Args:
        usual: prepares the image, and estimates with its score threshold.
        everything: the same model with a score threshold of 0.
    """
    return everything.predict_prepared([usual.prepare(image, **arguments)])[0]


def without_threshold(usual: Predictor) -> Predictor:
    """The same model, which keeps detections of any score."""
    return Predictor(usual.cfg, usual.model, info=usual.info, score_threshold=0.0)


def coco_results(prediction: Prediction, image_id: Any, category_ids: Sequence[int]) -> list[dict]:
    """Records of COCO's results format.

    Args:
        category_ids: of the classes.
    """
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[one["category_id"] - 1],
            **{key: one[key] for key in ("bbox", "score", "segmentation")},
        }
        for one in to_coco(prediction.objects, "")["annotations"]
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the results, print the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.object_scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="nuclei", help="(default: %(default)s)")
    parser.add_argument("--dataset", default="dsb2018_val", help="(default: %(default)s)")
    parser.add_argument("--limit", type=int, default=500, help="detections per image (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    args = parser.parse_args(argv)
    try:
        check_dataset(args.dataset)
        predictor = Predictor.from_pretrained(args.model)
        training_diameter(predictor.info)
        truth = load_ground_truth(args.dataset, str(args.output))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    everything = without_threshold(predictor)
    records = DatasetCatalog.get(args.dataset)
    class_of = MetadataCatalog.get(args.dataset).thing_dataset_id_to_contiguous_id
    category_ids = sorted(class_of, key=class_of.__getitem__)
    results: dict[str, list[dict]] = {way: [] for way in WAYS}
    for record in tqdm(records, unit="image", disable=None):
        objects = truth.loadAnns(truth.getAnnIds(record["image_id"], iscrowd=False))
        true = diameters([one["area"] for one in objects])
        image = read_image(record["file_name"], "RGB", None)
        for way, arguments in WAYS.items():
            prediction = predict(predictor, everything, image, arguments(true))
            results[way] += coco_results(prediction, record["image_id"], category_ids)
    rows = []
    for way, found in results.items():
        write_json(str(args.output / f"{way}.json"), found)
        stats = evaluate_coco(truth, found, "segm", limit=args.limit).stats
        rows.append([way, *(f"{100 * value:.1f}" for value in stats[:3])])
    print(tabulate(rows, headers=["", "AP", "AP50", "AP75"], tablefmt="github", disable_numparse=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
