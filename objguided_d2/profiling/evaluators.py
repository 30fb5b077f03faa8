"""The command that times each evaluator on synthetic predictions of a given size."""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from tabulate import tabulate

from ..config import get_cfg
from ..evaluation.build import EVALUATORS, build_evaluator
from ..evaluation.coco import LIBRARIES
from ..utils.allocator import keep_freed_memory
from ..utils.atomic_write import write_json
from ..utils.rle import EncodedMasks, encode_mask

_NAME = "evaluator_benchmark"


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Print the seconds of each evaluator in one thread; ``argv`` as for :meth:`ArgumentParser.parse_args`."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Time each evaluator on images with predicted disks, in one thread."
    )
    parser.add_argument("--images", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--objects", type=int, default=50, help="per image (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side of an image (default: %(default)s)")
    parser.add_argument("--evaluators", nargs="+", choices=EVALUATORS, default=list(EVALUATORS), help="default: all")
    parser.add_argument("--coco-eval", choices=LIBRARIES, default="faster_coco_eval", help="default: %(default)s")
    args = parser.parse_args(argv)
    keep_freed_memory()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    seconds = time_evaluators(args.images, args.objects, args.size, args.evaluators, coco_eval=args.coco_eval)
    print(f"{args.images} images of {args.size} x {args.size} with {args.objects} objects, one thread")
    print(tabulate([(name, f"{value:.1f}") for name, value in seconds.items()], headers=("evaluator", "seconds")))
    return 0


def time_evaluators(
    num_images: int,
    objects_per_image: int,
    size: int = 256,
    names: Sequence[str] = tuple(EVALUATORS),
    seed: int = 0,
    coco_eval: str = "faster_coco_eval",
) -> dict[str, float]:
    """Seconds that each evaluator takes for all images, from encoded masks to metrics, in this process.

    Args:
        objects_per_image: disks of 5 to 12 pixels radius: one in ten is a false negative, the others are predicted with
            centers up to 2 pixels off, and there are as many false positives as false negatives.
        size: side of the images.
        coco_eval: TEST.COCO_EVAL.
    """
    rng = np.random.default_rng(seed)
    truth = [_disks(rng, objects_per_image, size) for _ in range(num_images)]
    predicted = [disks[len(disks) // 10 :] + [rng.integers(-2, 3), rng.integers(-2, 3), 0] for disks in truth]
    predicted = [np.concatenate([disks, _disks(rng, objects_per_image // 10, size)]) for disks in predicted]
    outputs = [_instances(disks, size, rng) for disks in predicted]
    with tempfile.TemporaryDirectory() as folder:
        json_file = str(Path(folder) / "truth.json")
        write_json(json_file, _coco(truth, size))
        DatasetCatalog.register(_NAME, lambda: [])
        MetadataCatalog.get(_NAME).set(
            json_file=json_file, thing_classes=["cell"], thing_dataset_id_to_contiguous_id={1: 0}
        )
        try:
            return {name: _time_one(name, outputs, folder, objects_per_image, coco_eval) for name in names}
        finally:
            DatasetCatalog.remove(_NAME)
            MetadataCatalog.remove(_NAME)


def _time_one(name: str, outputs: list[Instances], folder: str, limit: int, coco_eval: str) -> float:
    cfg = get_cfg()
    cfg.TEST.EVALUATORS = [name]
    cfg.TEST.COCO_EVAL = coco_eval
    cfg.TEST.DETECTIONS_PER_IMAGE = limit
    evaluator = build_evaluator(cfg, _NAME, folder)
    start = time.perf_counter()
    evaluator.reset()
    for image_id, instances in enumerate(outputs, start=1):
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    evaluator.evaluate()
    return time.perf_counter() - start


def _disks(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """(count, 3) center x, y and radius."""
    return np.stack([rng.integers(0, size, count), rng.integers(0, size, count), rng.integers(5, 13, count)], axis=1)


def _encode(disk: np.ndarray, size: int) -> dict:
    mask = np.zeros((size, size), np.uint8)
    x, y, radius = disk.tolist()
    cv2.circle(mask, (min(max(x, 0), size - 1), min(max(y, 0), size - 1)), radius, 1, -1)
    return encode_mask(mask)


def _instances(disks: np.ndarray, size: int, rng: np.random.Generator) -> Instances:
    rles = [_encode(disk, size) for disk in disks]
    boxes = torch.as_tensor(np.array([mask_util.toBbox(rle) for rle in rles]), dtype=torch.float32)
    boxes[:, 2:] += boxes[:, :2]
    return Instances(
        (size, size),
        pred_boxes=Boxes(boxes),
        pred_masks=EncodedMasks(rles),
        scores=torch.as_tensor(rng.uniform(0.4, 1, len(rles))),
        pred_classes=torch.zeros(len(rles), dtype=torch.int64),
    )


def _coco(truth: list[np.ndarray], size: int) -> dict:
    annotations = []
    for image_id, disks in enumerate(truth, start=1):
        for disk in disks:
            rle = _encode(disk, size)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": int(mask_util.area(rle)),
                    "bbox": mask_util.toBbox(rle).tolist(),
                    "segmentation": rle,
                }
            )
    return {
        "categories": [{"id": 1, "name": "cell"}],
        "images": [{"id": i, "file_name": f"{i}.png", "height": size, "width": size} for i in range(1, len(truth) + 1)],
        "annotations": annotations,
    }
