"""The released program's way to compute AP, against an example by hand and a slow plain version."""

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances

from objguided_d2.config import get_cfg
from objguided_d2.evaluation import build_evaluator
from objguided_d2.evaluation.ground_truth import Objects
from objguided_d2.evaluation.released import compare_masks, resize_mask, resize_weights
from objguided_d2.evaluation.voc2010 import average_precision
from objguided_d2.utils.rle import EncodedMasks, encode_mask
from tests.evaluation.rectangles import rectangle_instances, rectangle_record

NAMES = [f"AP{t}" for t in range(50, 100, 5)]


def mask_of(size, *parts):
    """Bool (height, width), true in the given rows and columns, both ends included: (top, bottom, left, right)."""
    mask = np.zeros(size, bool)
    for top, bottom, left, right in parts:
        mask[top : bottom + 1, left : right + 1] = True
    return mask


def objects_of(masks, classes=None):
    number = len(masks)
    return Objects(
        np.zeros((number, 4)),
        [encode_mask(mask) for mask in masks],
        np.zeros(number, int) if classes is None else np.asarray(classes),
        np.zeros(number, bool),
    )


def resize(mask, size):
    return resize_mask(encode_mask(mask), *(resize_weights(*sides) for sides in zip(mask.shape, size)))


def test_an_asymmetric_shape_by_hand():
    # An L of 6 x 6 input pixels in an image of 12 x 6: rows are doubled, so that each of its ends has rows of 1/4, 3/4.
    fractional = resize(mask_of((6, 6), (1, 4, 1, 2), (3, 4, 1, 4)), (12, 6))
    assert fractional.box.tolist() == [1, 3, 4, 8]
    np.testing.assert_allclose(
        fractional.values,
        [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0.25, 0.25], [1, 1, 0.75, 0.75], [1, 1, 1, 1], [1, 1, 1, 1]],
    )
    same_scene = mask_of((12, 6), (2, 9, 1, 2), (6, 9, 1, 4))
    as_cut = mask_of((12, 6), (3, 8, 1, 2), (5, 8, 1, 4))
    box_iou, mask_iou = compare_masks([fractional], objects_of([same_scene, as_cut]))
    np.testing.assert_allclose(box_iou, [[(3 * 5) / (3 * 7), 1]])
    # The mask sums to 18; the objects have 24 and 20 pixels, of which 18 and 20 are not zero in the mask.
    np.testing.assert_allclose(mask_iou, [[18 / (18 + 24 - 18), 20 / (18 + 20 - 20)]])


def test_a_crowd_has_the_part_of_a_mask_that_its_fractional_pixels_sum_to():
    fractional = resize(mask_of((6, 6), (1, 4, 1, 2), (3, 4, 1, 4)), (12, 6))
    objects = objects_of([mask_of((12, 6), (0, 6, 0, 5))])
    objects = Objects(objects.boxes, objects.masks, objects.classes, np.array([True]))
    box_iou, mask_iou = compare_masks([fractional], objects)
    # Of the mask's rows 3 to 8, which sum to 2, 2, 2.5, 3.5, 4 and 4, and of their extent of 5.
    np.testing.assert_allclose(mask_iou, [[10 / 18]])
    np.testing.assert_allclose(box_iou, [[3 / 5]])


def test_crowds_of_any_size_ignore_what_lies_in_them(register, tmp_path):
    name = register([rectangle_record(1, [((0, 10, 20, 30), 0), ((40, 0, 60, 2), 0, 1)])])
    predicted = rectangle_instances([((0, 10, 20, 30), 0, 0.5), ((42, 0, 50, 2), 0, 0.9)])
    results = evaluate(name, {1: predicted}, tmp_path)
    assert results["released_seg"]["AP"] == results["released_dec"]["AP"] == 100


@pytest.mark.parametrize("old, new", [((16, 24), (8, 12)), ((16, 16), (23, 11)), ((20, 16), (31, 33)), ((9, 9),) * 2])
def test_the_resize_is_opencvs_bilinear_one(old, new):
    rng = np.random.default_rng(0)
    mask = cv2.GaussianBlur(rng.normal(size=old), (0, 0), 2) > 0
    rows, columns = (resize_weights(*sides) for sides in zip(old, new))
    expected = cv2.resize(mask.astype(float), new[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(rows @ mask @ columns.T, expected, atol=1e-6)
    y, x = np.nonzero(expected > 1 - 1e-6)
    fractional = resize(mask, new)
    assert fractional.box.tolist() == [x.min(), y.min(), x.max(), y.max()]
    np.testing.assert_allclose(fractional.values, expected[y.min() : y.max() + 1, x.min() : x.max() + 1], atol=1e-6)


def test_a_mask_without_a_full_pixel_is_dropped():
    assert resize(mask_of((8, 8), (3, 3, 2, 6)), (11, 11)) is None
    assert resize(np.zeros((8, 8), bool), (8, 8)) is None


def slow_results(images):
    """Both APs, percent by threshold, pixel by pixel on whole images; images of (masks, scores, true masks)."""
    ranked, total = [], 0
    for n, (masks, scores, true) in enumerate(images):
        true = [t for t in true if min(np.ptp(np.nonzero(t)[0]), np.ptp(np.nonzero(t)[1])) >= 2]
        total += len(true)
        for mask, score in zip(masks, scores):
            resized = cv2.resize(mask.astype(float), true_size(images)[::-1], interpolation=cv2.INTER_LINEAR)
            y, x = np.nonzero(resized > 1 - 1e-6)
            if not len(y):
                continue
            cut = np.zeros_like(resized)
            inside = np.s_[y.min() : y.max() + 1, x.min() : x.max() + 1]
            cut[inside] = resized[inside]
            by_box, by_mask = [], []
            for t in true:
                ty, tx = np.nonzero(t)
                height = min(y.max(), ty.max()) - max(y.min(), ty.min())
                width = min(x.max(), tx.max()) - max(x.min(), tx.min())
                shared = max(height, 0) * max(width, 0)
                union = np.ptp(y) * np.ptp(x) + np.ptp(ty) * np.ptp(tx) - shared
                by_box.append(shared / union if shared else 0)
                both = sum(bool(cut[i, j] > 1e-6 and t[i, j]) for i in range(t.shape[0]) for j in range(t.shape[1]))
                by_mask.append(both / (cut.sum() + t.sum() - both) if shared else 0)
            ranked.append((score, n, by_box, by_mask))
    ranked.sort(key=lambda detection: -detection[0])
    results = {}
    for task, column, passes in (
        ("released_dec", 2, lambda iou, t: iou >= t),
        ("released_seg", 3, lambda iou, t: iou > t),
    ):
        results[task] = []
        for threshold in np.linspace(0.5, 0.95, 10):
            taken, true_positive = set(), []
            for detection in ranked:
                iou = detection[column]
                best = int(np.argmax(iou)) if iou else -1
                passed = best >= 0 and passes(iou[best], threshold)
                true_positive.append(passed and (detection[1], best) not in taken)
                if passed:
                    taken.add((detection[1], best))
            results[task].append(100 * average_precision(np.array(true_positive), total))
    return results


def true_size(images):
    return images[0][2][0].shape


def ellipse(size, rng, moved=None):
    scale = np.array(size)
    center, axes = (rng.uniform(0.15, 0.85, 2), rng.uniform(0.03, 0.2, 2)) if moved is None else moved
    mask = np.zeros(size, np.uint8)
    (y, x), (b, a) = np.round(center * scale).astype(int), np.maximum(np.round(axes * scale), 1).astype(int)
    return cv2.ellipse(mask, (int(x), int(y)), (int(a), int(b)), 0, 0, 360, 1, -1).astype(bool)


def instances_of(masks, scores, size):
    """Instances with whole masks that play no part and masks of the input."""
    number = len(masks)
    return Instances(
        size,
        pred_boxes=Boxes(torch.zeros(number, 4)),
        pred_masks=torch.zeros(number, *size, dtype=torch.bool),
        input_masks=EncodedMasks([encode_mask(mask) for mask in masks]),
        pred_classes=torch.zeros(number, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float64),
    )


def evaluate(name, instances_by_image, folder):
    cfg = get_cfg()
    cfg.TEST.EVALUATORS = ["released"]
    evaluator = build_evaluator(cfg, name, str(folder))
    evaluator.reset()
    for image_id, instances in instances_by_image.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


@pytest.mark.parametrize("seed, size", [(0, (30, 45)), (1, (52, 40)), (2, (24, 32))])
def test_equals_the_slow_version(seed, size, register, tmp_path):
    rng, input_size = np.random.default_rng(seed), (48, 64)
    images, records = [], []
    for image_id in range(3):
        shapes = [(rng.uniform(0.15, 0.85, 2), rng.uniform(0.03, 0.2, 2)) for _ in range(6)]
        true = [ellipse(size, rng, shape) for shape in shapes]
        moved = [(center + rng.normal(0, 0.01, 2), axes * rng.uniform(0.9, 1.1, 2)) for center, axes in shapes]
        masks = [ellipse(input_size, rng, shape) for shape in moved] + [ellipse(input_size, rng)]
        images.append((masks, rng.permutation(7) / 7 + 0.01 * image_id, true))
        record = rectangle_record(image_id, [], *size)
        for mask in true:
            record["annotations"].append(
                {
                    "bbox": mask_util.toBbox(encode_mask(mask)).tolist(),
                    "bbox_mode": BoxMode.XYWH_ABS,
                    "category_id": 0,
                    "segmentation": encode_mask(mask),
                }
            )
        records.append(record)
    results = evaluate(
        register(records),
        {n: instances_of(masks, scores, size) for n, (masks, scores, _) in enumerate(images)},
        tmp_path,
    )
    expected = slow_results(images)
    assert 5 < np.mean(expected["released_seg"]) < 95
    for task, values in expected.items():
        np.testing.assert_allclose([results[task][name] for name in NAMES], values, atol=1e-9)
        assert results[task]["AP"] == pytest.approx(np.mean(values))


def test_whole_masks_of_other_models_stay_whole_and_an_iou_at_the_threshold_passes_for_boxes_alone(register, tmp_path):
    name = register([rectangle_record(1, [((10, 10, 31, 31), 0)])])
    # Half of the object's 441 pixels cannot be had, so the box is the one that shares half of its extents.
    results = evaluate(name, {1: rectangle_instances([((10, 10, 31, 21), 0, 0.9)])}, tmp_path)
    assert results["released_dec"]["AP50"] == 100 and results["released_dec"]["AP55"] == 0
    assert results["released_seg"]["AP50"] == 100  # 231 of 441
    name = register([rectangle_record(1, [((10, 10, 30, 30), 0)])])
    results = evaluate(name, {1: rectangle_instances([((10, 10, 30, 20), 0, 0.9)])}, tmp_path)
    assert results["released_seg"]["AP50"] == 0  # 200 of 400


def test_objects_of_fewer_than_three_rows_or_columns_are_left_out(register, tmp_path):
    name = register([rectangle_record(1, [((0, 0, 2, 20), 0), ((10, 0, 30, 20), 0)]), rectangle_record(2, [])])
    results = evaluate(name, {1: rectangle_instances([((10, 0, 30, 20), 0, 0.9)])}, tmp_path)
    assert results["released_seg"]["AP"] == results["released_dec"]["AP"] == 100
    results = evaluate(name, {}, tmp_path)
    assert results["released_seg"]["AP"] == results["released_dec"]["AP"] == 0
