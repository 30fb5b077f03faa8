"""Both libraries give the numbers that pycocotools gives for the same data as it is."""

import contextlib
import copy
import io

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from objguided_d2.evaluation.coco import LIBRARIES, evaluate_coco, match_coco
from tests.evaluation.rectangles import rectangle_mask

SIDE = 128
# Medium objects have 32^2 to 96^2 pixels.
BORDER_SIDES = (31, 32, 33, 95, 96, 97)


def region(x, y, w, h):
    rle = mask_util.encode(np.asfortranarray(rectangle_mask((x, y, x + w, y + h), SIDE, SIDE)))
    return {"bbox": [x, y, w, h], "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}


def random_data(seed, num_images=6):
    """Boxes on a coarse grid (equal IoUs are common), few score levels (equal scores too), crowds, sizes at the borders
    of the ranges, images without objects, without predictions and without both."""
    rng = np.random.default_rng(seed)
    dataset = {
        "images": [{"id": i, "height": SIDE, "width": SIDE} for i in range(num_images)],
        "categories": [{"id": c, "name": str(c)} for c in (1, 2, 5)],
        "annotations": [],
    }
    results = []
    for image_id in range(num_images - 1):
        for _ in range(rng.integers(0, 25)):
            x, y, w, h = (8 * rng.integers(0, 8, 4) + 8).tolist()
            if rng.random() < 0.3:
                x, y, w, h = 8, 8, *[int(rng.choice(BORDER_SIDES))] * 2
            fields = {"image_id": image_id, "category_id": int(rng.choice([1, 2, 5]))}
            if image_id != 1:
                number = len(dataset["annotations"]) + 1
                crowd = int(rng.random() < 0.15)
                annotation = {"id": number, "area": w * h, "iscrowd": crowd, **fields, **region(x, y, w, h)}
                dataset["annotations"].append(annotation)
            if image_id != 2:
                for _ in range(rng.integers(0, 4)):
                    dx, dy, dw, dh = (4 * rng.integers(-1, 2, 4)).tolist()
                    found = region(x + dx, y + dy, w + dw, h + dh)
                    results.append({"score": float(rng.integers(1, 9)) / 8, **fields, **found})
    return dataset, results


def index(dataset):
    coco = COCO()
    coco.dataset = copy.deepcopy(dataset)
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def reference(kind, dataset, results, task, max_dets):
    """What the original gives without any of our code."""
    truth = index(dataset)
    unused = "bbox" if task == "segm" else "segmentation"
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes([{k: v for k, v in result.items() if k != unused} for result in results])
        evaluation = kind(truth, found, task)
        evaluation.params.maxDets = max_dets
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def assert_equal(evaluation, expected):
    for key in ("precision", "recall", "scores"):
        np.testing.assert_allclose(evaluation.eval[key], expected.eval[key], rtol=0, atol=1e-12)
    np.testing.assert_allclose(evaluation.stats, expected.stats, rtol=0, atol=1e-12)


@pytest.fixture(params=LIBRARIES)
def library(request):
    return request.param


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("limit, max_dets", [(1, [1, 1, 1]), (5, [1, 5, 5]), (100, [1, 10, 100]), (300, [1, 10, 300])])
def test_equals_the_original(library, seed, task, limit, max_dets):
    dataset, results = random_data(seed)
    expected = reference(COCOeval if limit == 100 else COCOevalMaxDets, dataset, results, task, max_dets)
    assert 0 < expected.stats[0] < 1
    assert_equal(evaluate_coco(index(dataset), results, task, limit=limit, library=library), expected)


def test_polygons(library):
    dataset, results = random_data(0)
    rng = np.random.default_rng(0)
    for annotation in dataset["annotations"]:
        x, y, w, h = annotation["bbox"] + rng.uniform(-0.5, 0.5, 4)
        annotation["segmentation"] = [[x, y, x + w, y, x + w / 2, y + h], [x, y + h, x + 5.5, y + h, x, y + h / 2]]
        annotation["area"] = float(w * h / 2)
    expected = reference(COCOevalMaxDets, dataset, results, "segm", [1, 10, 300])
    assert expected.stats[0] > 0
    assert_equal(evaluate_coco(index(dataset), results, "segm", limit=300, library=library), expected)


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("annotation_id", [lambda n: n - 1, lambda n: -n, lambda n: n + 0.5, lambda n: 2**63 + n])
@pytest.mark.parametrize("image_id", [lambda n: n, lambda n: n - 5, lambda n: 2**60 + n, lambda n: f"image {n}"])
def test_ids_do_not_matter(library, task, annotation_id, image_id):
    dataset, results = random_data(0)
    expected = evaluate_coco(index(dataset), results, task, limit=100, library=library)
    for item in dataset["annotations"]:
        item["id"] = annotation_id(item["id"])
    for item in dataset["annotations"] + results:
        item["image_id"] = image_id(item["image_id"])
    for image in dataset["images"]:
        image["id"] = image_id(image["id"])
    assert_equal(evaluate_coco(index(dataset), results, task, limit=100, library=library), expected)


def test_annotation_with_id_zero_can_be_found(library):
    dataset = {
        "images": [{"id": 0, "height": SIDE, "width": SIDE}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "area": 81, **region(0, 0, 9, 9)}],
    }
    results = [{"image_id": 0, "category_id": 1, "score": 0.5, **region(0, 0, 9, 9)}]
    assert reference(COCOeval, with_crowd_flag(dataset), results, "segm", [1, 10, 100]).stats[0] == 0
    assert evaluate_coco(index(dataset), results, "segm", limit=100, library=library).stats[0] == pytest.approx(1)


def with_crowd_flag(dataset):
    return {**dataset, "annotations": [{"iscrowd": 0, **annotation} for annotation in dataset["annotations"]]}


def test_object_without_area_is_named(library):
    dataset, results = random_data(0)
    del dataset["annotations"][6]["area"]
    with pytest.raises(ValueError, match="Annotation 7 has no 'area'"):
        evaluate_coco(index(dataset), results, "segm", limit=100, library=library)


def test_some_images_only(library):
    dataset, results = random_data(0)
    expected = evaluate_coco(
        index({**dataset, "images": dataset["images"][3:]}),
        [result for result in results if result["image_id"] >= 3],
        "segm",
        limit=100,
        library=library,
    )
    some = evaluate_coco(index(dataset), results, "segm", limit=100, library=library, image_ids=[5, 3, 4])
    assert_equal(some, expected)


def test_nothing_found(library):
    dataset, _ = random_data(0)
    assert evaluate_coco(index(dataset), [], "segm", limit=100, library=library).stats[0] == 0


def test_inputs_stay_as_they_were(library):
    dataset, results = random_data(0)
    truth, given = index(dataset), copy.deepcopy(results)
    evaluate_coco(truth, given, "segm", limit=100, library=library)
    assert truth.dataset == dataset and given == results


@pytest.mark.parametrize("seed", range(3))
def test_matches_are_those_of_the_original(seed):
    dataset, results = random_data(seed)
    expected = reference(COCOevalMaxDets, dataset, results, "segm", [1, 5, 5])
    matches = match_coco(index(dataset), results, "segm", limit=5)
    num_images = len(dataset["images"])
    num_classes = len(dataset["categories"])
    for k in range(num_classes):
        start = k * 4 * num_images
        of_all_sizes = expected.evalImgs[start : start + num_images]
        for one, other in zip(matches.evalImgs[k * num_images : (k + 1) * num_images], of_all_sizes, strict=True):
            assert (one is None) == (other is None)
            for key in ("dtScores", "dtMatches", "dtIgnore", "gtIgnore") if one else ():
                np.testing.assert_array_equal(np.asarray(one[key]), np.asarray(other[key]))
