import numpy as np
import pytest

from objguided_d2.evaluation.matched_detections import MatchedDetections, f1_by_score
from objguided_d2.evaluation.score_threshold import best_score_threshold


def matched(scores, true, num_objects):
    true = np.array([true], bool)
    return MatchedDetections(
        np.array(scores), np.zeros(len(scores), int), true, np.zeros_like(true), np.array([num_objects])
    )


def test_scores_that_fell_get_a_lower_threshold():
    # Four true ones from 0.09 to 0.15, false ones below: at the former 0.3 nothing is left.
    low = matched([0.15, 0.13, 0.11, 0.09, 0.05, 0.03], [1, 1, 1, 1, 0, 0], 4)
    assert f1_by_score([low], [0.3]) == 0
    assert best_score_threshold([low], 0.3) == pytest.approx(0.08)


def test_false_detections_raise_it():
    assert best_score_threshold([matched([0.9, 0.8, 0.5, 0.4], [1, 1, 0, 0], 2)], 0.3) == pytest.approx(0.52)


def test_as_good_a_threshold_stays():
    assert best_score_threshold([matched([0.9, 0.8, 0.1], [1, 1, 0], 2)], 0.337) == 0.337


def test_classes_count_together():
    few, many = matched([0.9], [1], 1), matched([0.8] * 9 + [0.2] * 9, [0] * 9 + [1] * 9, 9)
    assert best_score_threshold([few, many], 0.5) <= 0.2


@pytest.mark.parametrize("nothing", [[], [matched([], [], 3)], [matched([0.5], [0], 3)]])
def test_without_a_true_detection_it_stays(nothing):
    assert best_score_threshold(nothing, 0.3) == 0.3
