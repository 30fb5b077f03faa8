import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from objguided_d2.evaluation.matching import MatchCounts, count_matches, match

ious = st.tuples(st.integers(0, 5), st.integers(0, 5)).flatmap(
    lambda shape: arrays(float, shape, elements=st.floats(0, 1, width=16))
)


def best_by_trying(iou, threshold):
    """Most pairs, and among those the largest sum of IoU, over every one-to-one pairing."""
    num_predicted, num_true = iou.shape
    best = (0, 0.0)
    for size in range(1, min(iou.shape) + 1):
        for rows in itertools.combinations(range(num_predicted), size):
            for columns in itertools.permutations(range(num_true), size):
                values = iou[list(rows), list(columns)]
                if (values >= threshold).all():
                    best = max(best, (size, values.sum()))
    return best


@settings(max_examples=60, deadline=None)
@given(ious, st.sampled_from([0.25, 0.5, 0.75]))
def test_pairs_are_the_most_and_the_best(iou, threshold):
    predicted, true = match(iou, threshold)
    assert len(set(predicted)) == len(predicted) == len(set(true)) == len(true)
    assert (iou[predicted, true] >= threshold).all()
    number, total = best_by_trying(iou, threshold)
    assert len(predicted) == number
    assert iou[predicted, true].sum() == pytest.approx(total)


def test_more_pairs_beat_one_good_pair():
    # Greedy by IoU would take 0.9 and leave the other two unpaired.
    predicted, true = match(np.array([[0.9, 0.6], [0.6, 0.0]]), 0.5)
    assert list(zip(predicted, true)) == [(0, 1), (1, 0)]


def test_one_more_pair_beats_the_iou_of_all_others():
    # Four pairs of IoU 1 or five of 0.5.
    predicted, true = match(np.eye(5) / 2 + np.eye(5, k=1), 0.5)
    assert predicted.tolist() == true.tolist() == [0, 1, 2, 3, 4]


def test_counts_by_hand():
    iou = np.array([[0.8, 0.0], [0.0, 0.55], [0.1, 0.0]])
    counts = count_matches(iou, thresholds=np.array([0.5, 0.6, 0.9]))
    assert counts.tp.tolist() == [2, 1, 0]
    assert counts.fp.tolist() == [1, 2, 3]
    assert counts.fn.tolist() == [0, 1, 2]
    assert counts.precision == pytest.approx([2 / 3, 1 / 3, 0])
    assert counts.recall == pytest.approx([1, 1 / 2, 0])
    assert counts.f1 == pytest.approx([4 / 5, 2 / 5, 0])
    assert counts.accuracy == pytest.approx([2 / 3, 1 / 4, 0])
    assert counts.mean_matched_iou == pytest.approx([(0.8 + 0.55) / 2, 0.8, 0])
    assert counts.panoptic_quality == pytest.approx(counts.f1 * counts.mean_matched_iou)


def test_ignored_prediction_is_no_false_positive_but_a_pair_counts():
    iou = np.array([[0.8], [0.0], [0.0]])
    counts = count_matches(iou, np.array([True, True, False]), np.array([0.5]))
    assert (counts.tp[0], counts.fp[0], counts.fn[0]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("shape", "precision", "recall", "accuracy"), [((0, 0), 1, 1, 1), ((2, 0), 0, 0, 0), ((0, 2), 0, 0, 0)]
)
def test_empty_images(shape, precision, recall, accuracy):
    counts = count_matches(np.zeros(shape))
    assert (counts.precision == precision).all() and (counts.recall == recall).all()
    assert (counts.accuracy == accuracy).all() and (counts.f1 == accuracy).all()
    assert (counts.panoptic_quality == accuracy).all()
    assert (counts.mean_matched_iou == 0).all()


@given(ious, st.randoms(use_true_random=False))
def test_order_does_not_matter(iou, random):
    rows, columns = list(range(iou.shape[0])), list(range(iou.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    counts, shuffled = count_matches(iou), count_matches(iou[rows][:, columns])
    assert (counts.tp == shuffled.tp).all() and (counts.fp == shuffled.fp).all() and (counts.fn == shuffled.fn).all()
    assert counts.iou_sum == pytest.approx(shuffled.iou_sum)


def test_counts_add_up():
    one, two = count_matches(np.eye(2)), count_matches(np.zeros((1, 3)))
    total = MatchCounts.zero(10) + one + two
    assert (total.tp == 2).all() and (total.fp == 1).all() and (total.fn == 3).all()


@settings(max_examples=25, deadline=None)
@given(arrays(np.int32, (12, 14), elements=st.integers(0, 5)), arrays(np.int32, (12, 14), elements=st.integers(0, 5)))
def test_agrees_with_stardist(predicted_labels, true_labels):
    stardist = pytest.importorskip("stardist.matching", reason="stardist is not installed")
    thresholds = np.array([0.1, 0.3, 0.5, 0.7])
    predicted_ids, true_ids = (np.unique(labels[labels > 0]) for labels in (predicted_labels, true_labels))
    iou = np.array(
        [
            [
                np.mean(
                    (predicted_labels == p)[(predicted_labels == p) | (true_labels == t)]
                    & (true_labels == t)[(predicted_labels == p) | (true_labels == t)]
                )
                for t in true_ids
            ]
            for p in predicted_ids
        ]
    ).reshape(len(predicted_ids), len(true_ids))
    counts = count_matches(iou, thresholds=thresholds)
    for t, expected in enumerate(stardist.matching(true_labels, predicted_labels, thresh=thresholds)):
        assert (counts.tp[t], counts.fp[t], counts.fn[t]) == (expected.tp, expected.fp, expected.fn)
        if expected.tp:
            assert counts.precision[t] == pytest.approx(expected.precision)
            assert counts.recall[t] == pytest.approx(expected.recall)
            assert counts.f1[t] == pytest.approx(expected.f1)
            assert counts.accuracy[t] == pytest.approx(expected.accuracy)
