import numpy as np
import pytest

from objguided_d2.evaluation.matched_detections import MatchedDetections
from objguided_d2.report.bootstrap import draw_weights, interval, paired_p_value


def test_weights():
    weights = draw_weights(50, 200)
    assert weights.shape == (200, 50) and (weights.sum(axis=1) == 50).all()
    assert np.array_equal(weights, draw_weights(50, 200)) and not np.array_equal(weights, draw_weights(50, 200, 1))


def test_resample_without_objects_is_undefined_and_left_out():
    matched = MatchedDetections(
        np.ones(1), np.array([0]), np.ones((1, 1), bool), np.zeros((1, 1), bool), np.array([1, 0])
    )
    values = matched.resampled(np.array([[0, 2], [2, 0]]))
    assert np.isnan(values[0]) and values[1] == 1
    assert interval(values) == (1, 1)


def test_interval_and_p_value():
    values = np.arange(1001) / 1000
    assert interval(values) == pytest.approx((0.025, 0.975))
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 4000)
    assert paired_p_value(noise, np.zeros(4000)) > 0.9
    assert paired_p_value(noise + 5, np.zeros(4000)) == 1 / 4000
    assert paired_p_value(noise + 2, np.zeros(4000)) == pytest.approx(0.0455, abs=0.01)
    assert paired_p_value(values, values) == 1
