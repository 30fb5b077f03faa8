"""VOC2010 AP against reference values, hand-computed cases, a slow plain version and its properties."""

from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2.evaluation.voc2010 import (
    IOU_THRESHOLDS,
    Detections,
    Objects,
    average_precision,
    average_precision_per_class,
    best_overlaps,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "voc2010_ap.npz"
SIZE = 24


def encode(box):
    x, y, w, h = (int(v) for v in box)
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    return mask_util.encode(mask)


def detections(*rows):
    """Rows (x, y, w, h, class, score)."""
    table = np.array(rows, dtype=float).reshape(-1, 6)
    return Detections(table[:, :4], [encode(box) for box in table[:, :4]], table[:, 4].astype(int), table[:, 5])


def objects(*rows):
    """Rows (x, y, w, h, class, is_crowd)."""
    table = np.array(rows, dtype=float).reshape(-1, 6)
    return Objects(
        table[:, :4], [encode(box) for box in table[:, :4]], table[:, 4].astype(int), table[:, 5].astype(bool)
    )


def slow_average_precision_per_class(images, thresholds):
    """The rules one detection at a time, with the IoU of integer boxes counted in pixels."""

    def pixels(box):
        x, y, w, h = (int(v) for v in box)
        return {(i, j) for i in range(x, x + w) for j in range(y, y + h)}

    result = {}
    for category in sorted({c for _, true in images for c, crowd in zip(true.classes, true.is_crowd) if not crowd}):
        total = sum(c == category and not crowd for _, true in images for c, crowd in zip(true.classes, true.is_crowd))
        ranked = [
            (score, n, box)
            for n, (predicted, _) in enumerate(images)
            for box, c, score in zip(predicted.boxes, predicted.classes, predicted.scores)
            if c == category
        ]
        ranked.sort(key=lambda detection: -detection[0])
        for_thresholds = []
        for threshold in thresholds:
            taken, true_positive = set(), []
            for _, n, box in ranked:
                best, best_iou, in_crowd, true = None, 0.0, 0.0, images[n][1]
                for k, other in enumerate(true.boxes):
                    if true.classes[k] != category:
                        continue
                    shared = len(pixels(box) & pixels(other))
                    if true.is_crowd[k]:
                        in_crowd = max(in_crowd, shared / len(pixels(box)))
                    elif shared / len(pixels(box) | pixels(other)) > best_iou:
                        best, best_iou = k, shared / len(pixels(box) | pixels(other))
                if best_iou >= threshold:
                    true_positive.append((n, best) not in taken)
                    taken.add((n, best))
                elif in_crowd < threshold:
                    true_positive.append(False)
            area, num_true = 0.0, 0
            precisions = []
            for rank, is_true in enumerate(true_positive, start=1):
                num_true += is_true
                precisions.append(num_true / rank)
            for rank, is_true in enumerate(true_positive):
                if is_true:
                    area += max(precisions[rank:]) / total
            for_thresholds.append(area)
        result[category] = np.array(for_thresholds)
    return result


def test_average_precision_equals_reference_value():
    golden = np.load(GOLDEN)
    ap = average_precision(golden["true_positive_by_descending_score"], int(golden["num_ground_truth"]))
    assert ap == pytest.approx(float(golden["ap"]), abs=1e-12)


@pytest.mark.parametrize(
    "true_positive, num_ground_truth, expected",
    [
        ([], 3, 0.0),
        ([0, 0], 3, 0.0),
        ([1, 1], 2, 1.0),
        ([1, 1], 4, 0.5),
        # Precision 1, 1/2, 2/3, 2/4, 3/5 at recall 1/4, 1/4, 2/4, 2/4, 3/4: envelope 1, 2/3, 2/3, 3/5, 3/5.
        ([1, 0, 1, 0, 1], 4, (1 + 2 / 3 + 3 / 5) / 4),
        # The envelope lifts the first precision of 1/2 to the later 2/3.
        ([0, 1, 1], 2, 2 / 3),
    ],
)
def test_average_precision_by_hand(true_positive, num_ground_truth, expected):
    assert average_precision(np.array(true_positive), num_ground_truth) == pytest.approx(expected)


def test_average_precision_without_objects_is_an_error():
    with pytest.raises(ValueError, match="at least one object"):
        average_precision(np.array([0, 0]), 0)


def test_box_iou_has_exclusive_corners():
    # 10 x 10 boxes shifted by 5: 50 / 150. With inclusive corners it would be 66 / 176.
    best = best_overlaps(np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 10, 10]]), np.array([False]))
    assert best.iou == pytest.approx([1 / 3])


def test_detection_whose_best_object_is_taken_is_false_though_another_passes():
    # Both detections overlap the first object best (IoU 1 and 0.91), the second also passes with the other (0.75).
    true = objects((0, 0, 10, 10, 0, 0), (0, 2, 10, 10, 0, 0))
    predicted = detections((0, 0, 10, 10, 0, 0.9), (0, 0, 10, 11, 0, 0.8))
    assert best_overlaps(predicted.boxes, true.boxes, true.is_crowd).object_index.tolist() == [0, 0]
    ap = average_precision_per_class([(predicted, true)], "boxes", np.array([0.5]))
    assert ap[0] == pytest.approx([0.5])


def test_iou_equal_to_the_threshold_passes():
    ap = average_precision_per_class(
        [(detections((0, 0, 10, 5, 0, 0.9)), objects((0, 0, 10, 10, 0, 0)))], "masks", np.array([0.5, 0.55])
    )
    assert ap[0].tolist() == [1.0, 0.0]


def test_classes_are_apart_and_need_objects():
    true = objects((0, 0, 5, 5, 0, 0), (10, 10, 5, 5, 3, 0))
    predicted = detections((0, 0, 5, 5, 3, 0.9), (10, 10, 5, 5, 3, 0.8), (10, 10, 5, 5, 7, 0.8))
    ap = average_precision_per_class([(predicted, true)], "boxes", np.array([0.5]))
    assert {c: values.tolist() for c, values in ap.items()} == {0: [0.0], 3: [0.5]}


def test_objects_of_different_images_are_apart():
    box = (3, 3, 6, 6, 0)
    images = [(detections((*box, 0.9), (*box, 0.8)), objects()), (detections(), objects((*box, 0)))]
    assert average_precision_per_class(images, "boxes")[0].tolist() == [0.0] * 10


def test_crowd_is_neither_to_be_found_nor_a_mistake():
    true = objects((0, 0, 10, 10, 0, 0), (12, 0, 12, 24, 0, 1))
    inside_crowd, on_object, elsewhere = (13, 2, 4, 4, 0, 0.9), (0, 0, 10, 10, 0, 0.5), (0, 14, 4, 4, 0, 0.7)
    thresholds = np.array([0.5])
    ap = average_precision_per_class([(detections(inside_crowd, on_object), true)], "masks", thresholds)
    assert ap[0] == pytest.approx([1.0])
    ap = average_precision_per_class([(detections(inside_crowd, on_object, elsewhere), true)], "masks", thresholds)
    assert ap[0] == pytest.approx([0.5])
    crowd_alone = [(detections(inside_crowd), objects((12, 0, 12, 24, 0, 1)))]
    assert average_precision_per_class(crowd_alone, "masks", thresholds) == {}


def test_object_inside_a_crowd_can_be_found():
    true = objects((2, 2, 6, 6, 0, 0), (0, 0, 20, 20, 0, 1))
    assert average_precision_per_class([(detections((2, 2, 6, 6, 0, 0.9)), true)], "boxes")[0].tolist() == [1.0] * 10


boxes = st.tuples(*[st.integers(0, SIZE - 9)] * 2, *[st.integers(1, 8)] * 2)
classes = st.integers(0, 1)


@st.composite
def images_strategy(draw, crowds=True):
    """One to three images; half of the detections copy an object, moved a little. All scores differ."""
    images = []
    scores = iter(draw(st.permutations([k / 32 for k in range(1, 25)])))
    for _ in range(draw(st.integers(1, 3))):
        is_crowd = st.booleans() if crowds else st.just(False)
        true = draw(st.lists(st.tuples(boxes, classes, is_crowd), max_size=4))
        predicted = draw(st.lists(st.tuples(boxes, classes), max_size=4))
        for (x, y, w, h), category, _ in true:
            if draw(st.booleans()):
                predicted.append(((x, y, w, h + draw(st.integers(0, 1))), category))
        images.append(
            (
                detections(*[(*box, c, next(scores)) for box, c in predicted]),
                objects(*[(*box, c, crowd) for box, c, crowd in true]),
            )
        )
    return images


def assert_equal_per_class(first, second):
    assert first.keys() == second.keys()
    for category in first:
        np.testing.assert_allclose(first[category], second[category], atol=1e-12)


@settings(deadline=None, max_examples=150)
@given(images_strategy())
def test_equals_the_slow_version_for_boxes_and_masks(images):
    expected = slow_average_precision_per_class(images, IOU_THRESHOLDS)
    assert_equal_per_class(average_precision_per_class(images, "boxes"), expected)
    assert_equal_per_class(average_precision_per_class(images, "masks"), expected)


@settings(deadline=None, max_examples=60)
@given(images_strategy(), st.randoms(use_true_random=False))
def test_order_of_images_and_detections_does_not_matter(images, random):
    shuffled = []
    for predicted, true in random.sample(images, len(images)):
        order = random.sample(range(len(predicted.scores)), len(predicted.scores))
        shuffled.append(
            (
                Detections(
                    predicted.boxes[order],
                    [predicted.masks[k] for k in order],
                    predicted.classes[order],
                    predicted.scores[order],
                ),
                true,
            )
        )
    assert_equal_per_class(average_precision_per_class(shuffled, "masks"), average_precision_per_class(images, "masks"))


@settings(deadline=None, max_examples=60)
@given(images_strategy(crowds=False))
def test_never_rises_with_the_threshold_and_stays_in_range(images):
    for ap in average_precision_per_class(images, "boxes").values():
        assert (np.diff(ap) <= 1e-12).all()
        assert ((ap >= 0) & (ap <= 1 + 1e-12)).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.tuples(boxes, classes), unique=True, max_size=4), min_size=1, max_size=3))
def test_perfect_detections_give_one_and_none_give_zero(annotations):
    true = [objects(*[(*box, c, 0) for box, c in rows]) for rows in annotations]
    perfect = [(detections(*[(*box, c, 0.5) for box, c in rows]), t) for rows, t in zip(annotations, true)]
    nothing = [(detections(), t) for t in true]
    for region in ("boxes", "masks"):
        assert all((ap == 1).all() for ap in average_precision_per_class(perfect, region).values())
        assert all((ap == 0).all() for ap in average_precision_per_class(nothing, region).values())
