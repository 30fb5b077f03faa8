import numpy as np
import pycocotools.mask as mask_util
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from objguided_d2.evaluation.matched_detections import MatchedDetections
from objguided_d2.report.bootstrap import draw_weights
from tests.evaluation.rectangles import rectangle_mask


def annotation(box, image_id, number, **fields):
    rle = mask_util.encode(np.asfortranarray(rectangle_mask(box)))
    x1, y1, x2, y2 = box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "segmentation": {**rle, "counts": rle["counts"].decode()},
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
        **fields,
    }


def evaluate(image_ids, seed=0):
    """COCO evaluation of random boxes found somewhat off, on images that may come several times."""
    truth, found = [], []
    for new_id, image_id in enumerate(image_ids, start=1):
        rng = np.random.default_rng([seed, image_id])
        for _ in range(rng.integers(0, 5)):
            x, y, w, h = rng.integers(0, 60), rng.integers(0, 40), rng.integers(8, 20), rng.integers(8, 20)
            truth.append(annotation((x, y, x + w, y + h), new_id, len(truth) + 1))
            shift = rng.integers(0, 6)
            found.append(annotation((x + shift, y, x + w + shift, y + h), new_id, len(found) + 1, score=rng.random()))
        found.append(annotation((70, 45, 80, 55), new_id, len(found) + 1, score=rng.random()))
    images = [{"id": i, "height": 60, "width": 90} for i in range(1, len(image_ids) + 1)]
    cocos = []
    for annotations in (truth, found):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
        coco.createIndex()
        cocos.append(coco)
    evaluation = COCOeval(*cocos, "segm")
    evaluation.params.maxDets = [1, 10, 100]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def coco_ap(evaluation):
    return evaluation.eval["precision"][:, :, 0, 0, -1].mean()


@pytest.mark.parametrize("seed", range(3))
def test_ap_is_cocos(seed):
    evaluation = evaluate(list(range(8)), seed)
    assert MatchedDetections.from_coco(evaluation, 1).average_precision == pytest.approx(coco_ap(evaluation))


@pytest.mark.parametrize("seed", range(3))
def test_resampled_ap_is_that_of_a_set_with_the_images_repeated(seed):
    matched = MatchedDetections.from_coco(evaluate(list(range(8)), seed), 1)
    (weights,) = draw_weights(8, 1, seed)
    repeated = evaluate(np.repeat(np.arange(8), weights).tolist(), seed)
    assert matched.resampled(weights[None])[0] == pytest.approx(coco_ap(repeated), abs=1e-3)


def test_nothing_found():
    matched = MatchedDetections(
        np.zeros(0), np.zeros(0, int), np.zeros((2, 0), bool), np.zeros((2, 0), bool), np.array([3])
    )
    assert matched.average_precision == 0
