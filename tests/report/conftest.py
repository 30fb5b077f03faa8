"""A small dataset on disk with three runs: one perfect, one somewhat off, one of label images."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
import tifffile
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools.coco import COCO

from objguided_d2.data import register_objguided_instances
from objguided_d2.data.converters.coco_writer import CocoWriter

SIZE = 64
DATASET = "report_cells"


def random_cells(rng: np.random.Generator) -> np.ndarray:
    """Labels of squares on a 4 x 4 grid, one to six of them."""
    labels = np.zeros((SIZE, SIZE), np.int32)
    for label, cell in enumerate(rng.permutation(16)[: rng.integers(1, 7)], start=1):
        y, x = 16 * (cell // 4) + 2, 16 * (cell % 4) + 2
        labels[y : y + 11, x : x + 11] = label
    return labels


def coco_results(labels: np.ndarray, image_id: int, rng: np.random.Generator) -> list[dict]:
    results = []
    for label in range(1, labels.max() + 1):
        rle = mask_util.encode(np.asfortranarray(labels == label, dtype=np.uint8))
        results.append(
            {
                "image_id": image_id,
                "category_id": 1,
                "score": float(rng.uniform(0.4, 1)),
                "bbox": mask_util.toBbox(rle).tolist(),
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
        )
    return results


@pytest.fixture
def cells(tmp_path):
    """(name of the dataset, its COCO object, run paths: perfect, shifted, label images)."""
    rng = np.random.default_rng(0)
    maps = [random_cells(rng) for _ in range(6)]
    maps.append(np.zeros((SIZE, SIZE), np.int32))
    writer = CocoWriter(tmp_path / "val", ["cell"])
    for number, labels in enumerate(maps):
        image = np.repeat((60 + 120 * (labels > 0)).astype(np.uint8)[..., None], 3, axis=2)
        writer.add(f"image{number}", image, [labels == k for k in range(1, labels.max() + 1)])
    writer.write_json(tmp_path / "cells.json")
    register_objguided_instances(DATASET, str(tmp_path / "cells.json"), str(tmp_path / "val"))
    DatasetCatalog.get(DATASET)

    runs = tmp_path / "perfect", tmp_path / "shifted", tmp_path / "cellpose"
    for run, shift in zip(runs, (0, 3)):
        folder = run / "inference" / DATASET
        folder.mkdir(parents=True)
        results = [r for k, labels in enumerate(maps, 1) for r in coco_results(np.roll(labels, shift, axis=1), k, rng)]
        (folder / "coco_instances_results.json").write_text(json.dumps(results))
        (run / "config.yaml").write_text("VERSION: 2\n")
        lines = [
            {"iteration": 19, "elapsed_minutes": 1.5, "images_seen": 80.0},
            {"iteration": 20, "segm/AP": 30.0 - shift},
            {"iteration": 39, "elapsed_minutes": 3.0, "images_seen": 160.0},
            {"iteration": 40, "segm/AP": 40.0 - shift},
        ]
        (run / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    runs[2].mkdir()
    for number, labels in enumerate(maps):
        merged = (labels > 0).astype(np.uint16)
        tifffile.imwrite(runs[2] / f"image{number}.tif", merged)
    yield DATASET, COCO(str(tmp_path / "cells.json")), runs
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)
