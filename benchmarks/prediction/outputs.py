"""Every output of real images, read back by the library that its program uses: the same objects in each.

    python -m benchmarks.prediction.outputs --model output/my_run --dataset dsb2018_val --num-images 6

Exits with 1 at a difference, which is named.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas
import roifile
import shapely
import tifffile
import zarr
from detectron2.data import DatasetCatalog
from pycocotools.coco import COCO
from skimage.draw import polygon2mask

from objguided_d2.data.builtin import register_prepared
from objguided_d2.inference.image_source import open_image
from objguided_d2.inference.objects import SegmentedObjects
from objguided_d2.inference.predictor import Predictor
from objguided_d2.inference.writers import WRITERS, draw_overlay
from objguided_d2.utils.evenly_spaced import evenly_spaced


def main(argv: Sequence[str] | None = None) -> int:
    """Predict, write, read and compare.

    Returns:
        The exit status: 1 if an output holds other objects.
    """
    args = _parser().parse_args(argv)
    predictor = Predictor.from_pretrained(args.model, device=args.device)
    register_prepared(args.dataset)
    num_objects, problems = 0, []
    for record in evenly_spaced(DatasetCatalog.get(args.dataset), args.num_images):
        with tempfile.TemporaryDirectory() as folder, open_image(Path(record["file_name"])) as source:
            prediction = predictor(source)
            num_objects += len(prediction)
            stem = Path(folder) / "image"
            prediction.save(stem, list(WRITERS))
            masks = _full_masks(prediction.objects)
            for name, same in CHECKS.items():
                if not same(WRITERS[name].path(stem), masks, prediction.objects, source.read_all()):
                    problems.append(f"{record['file_name']}: {name} holds other objects")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{num_objects} objects of {args.num_images} images of {args.dataset} in {', '.join(CHECKS)}: ", end="")
    print("NOT the same" if problems else "the same in all")
    return int(bool(problems or not num_objects))


def _full_masks(objects: SegmentedObjects) -> np.ndarray:
    """(N, H, W) bool."""
    masks = np.zeros((len(objects), *objects.shape), bool)
    for mask, window, (x0, y0, x1, y1) in zip(masks, objects.masks, objects.boxes):
        mask[y0:y1, x0:x1] = window
    return masks


def _painted(masks: np.ndarray) -> np.ndarray:
    labels = np.zeros(masks.shape[1:], int)
    for number in range(len(masks), 0, -1):
        labels[masks[number - 1]] = number
    return labels


def _labels(path: Path, masks: np.ndarray, objects: SegmentedObjects, image: np.ndarray) -> bool:
    return np.array_equal(tifffile.imread(path), _painted(masks))


def _zarr(path: Path, masks: np.ndarray, objects: SegmentedObjects, image: np.ndarray) -> bool:
    return np.array_equal(np.asarray(zarr.open(str(path), mode="r")["labels/objects/0"]), _painted(masks))


def _table(path: Path, masks: np.ndarray, objects: SegmentedObjects, image: np.ndarray) -> bool:
    table = pandas.read_csv(path)
    centers = np.array([np.argwhere(mask).mean(0)[::-1] + 0.5 for mask in masks]).reshape(-1, 2)
    return (
        table["label"].tolist() == list(range(1, len(masks) + 1))
        and table["area_px2"].tolist() == masks.sum((1, 2)).tolist()
        and np.allclose(table[["center_x_px", "center_y_px"]], centers, atol=1e-3)
        and np.allclose(table["score"], objects.scores, atol=1e-5)
    )


def _coco(path: Path, masks: np.ndarray, objects: SegmentedObjects, image: np.ndarray) -> bool:
    coco = COCO(str(path))
    same = [np.array_equal(coco.annToMask(coco.anns[i + 1]), mask) for i, mask in enumerate(masks)]
    return len(coco.anns) == len(masks) and all(same)


def _geojson(path: Path, masks: np.ndarray, objects: SegmentedObjects, image: np.ndarray) -> bool:
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    y, x = np.mgrid[: masks.shape[1], : masks.shape[2]] + 0.5
    shapes = [shapely.from_geojson(json.dumps(feature["geometry"])) for feature in features]
    same = [shape.is_valid and np.array_equal(shapely.contains_xy(shape, x, y), m) for shape, m in zip(shapes, masks)]
    return len(shapes) == len(masks) and all(same)


def _rois(path: Path, masks: np.ndarray, objects: SegmentedObjects, image: np.ndarray) -> bool:
    rois = roifile.roiread(path) if len(masks) else []
    filled = np.zeros_like(masks)
    for mask, roi in zip(filled, rois):
        for ring in roi.coordinates(multi=True):
            # Even-odd: a ring inside another is a hole. Corners of pixels against their centers.
            mask ^= polygon2mask(mask.shape, np.asarray(ring, float)[:, ::-1] - 0.5)
    return len(rois) == len(masks) and np.array_equal(filled, masks)


def _overlay(path: Path, masks: np.ndarray, objects: SegmentedObjects, image: np.ndarray) -> bool:
    return np.array_equal(cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1], draw_overlay(objects, image))


CHECKS: dict[str, Callable[[Path, np.ndarray, SegmentedObjects, np.ndarray], bool]] = {
    "labels": _labels,
    "table": _table,
    "coco": _coco,
    "rois": _rois,
    "geojson": _geojson,
    "zarr": _zarr,
    "overlay": _overlay,
    "ctc": _labels,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prediction.outputs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="bundle, run folder or name of a shipped model")
    parser.add_argument("--dataset", default="dsb2018_val", help="registered name (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=6, help="evenly taken of it (default: %(default)s)")
    parser.add_argument("--device", help="as cpu or cuda:1 (default: CUDA where there is any)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
