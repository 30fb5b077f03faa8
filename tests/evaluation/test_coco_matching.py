"""The fast matching gives exactly what COCOeval gives."""

import contextlib
import copy
import io

import numpy as np
import pytest
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from objguided_d2.evaluation.coco_matching import SparseCOCOeval


def random_data(seed, num_images=6):
    """Crowded images: boxes on a coarse grid (equal IoUs are common), few score levels (equal scores too), crowds."""
    generator = np.random.default_rng(seed)
    dataset = {
        "images": [{"id": i, "height": 300, "width": 300} for i in range(num_images)],
        "categories": [{"id": c, "name": str(c)} for c in (1, 2)],
        "annotations": [],
    }
    results = []
    for image_id in range(num_images):
        for _ in range(generator.integers(0, 30)):
            x, y, w, h = (10 * generator.integers(0, 15, 4) + 10).tolist()
            category = int(generator.integers(1, 3))
            dataset["annotations"].append(
                {
                    "id": len(dataset["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(generator.random() < 0.15),
                }
            )
            for _ in range(generator.integers(0, 4)):
                moved = (np.array([x, y, w, h]) + 5 * generator.integers(-1, 2, 4)).tolist()
                score = float(generator.integers(1, 9)) / 8
                results.append({"image_id": image_id, "category_id": category, "bbox": moved, "score": score})
    return dataset, results


def evaluate(kind, dataset, results, max_dets):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset)
        truth.createIndex()
        coco_eval = kind(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
        coco_eval.params.maxDets = max_dets
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("original, max_dets", [(COCOeval, [1, 10, 100]), (COCOevalMaxDets, [1, 10, 500])])
def test_equals_cocoeval(seed, original, max_dets):
    dataset, results = random_data(seed)
    expected = evaluate(original, dataset, results, max_dets)
    fast = evaluate(SparseCOCOeval, dataset, results, max_dets)
    assert 0 < expected.stats[0] < 1
    for key in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(fast.eval[key], expected.eval[key])
    np.testing.assert_array_equal(fast.stats, expected.stats)


def test_annotation_with_id_zero_can_be_found():
    dataset, _ = random_data(0, num_images=1)
    dataset["annotations"] = [
        {"id": 0, "image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
    ]
    results = [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}]
    assert evaluate(SparseCOCOeval, dataset, results, [1, 10, 100]).stats[0] == pytest.approx(1)
