"""Confidence intervals of AP by the bootstrap: images resampled with replacement, alike for all methods compared.

N images, B resamples; :meth:`..evaluation.matched_detections.MatchedDetections.resampled` has the AP of each.
"""

import numpy as np


def draw_weights(num_images: int, num_resamples: int, seed: int = 0) -> np.ndarray:
    """(B, N) how often each image is drawn in each resample of N images."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=num_resamples)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The central range of resampled values that holds this fraction of them."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_p_value(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided bootstrap p-value of no difference, from values on the same resamples.

    Twice the smaller fraction of resamples on one side of zero; at least 1 / B, since no resample on the other side is
    not the same as none there could be.
    """
    difference = (first - second)[np.isfinite(first - second)]
    below, above = np.mean(difference <= 0), np.mean(difference >= 0)
    return float(min(1.0, max(2 * min(below, above), 1 / len(difference))))
