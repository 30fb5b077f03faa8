"""Keypoints of one image, class and scale, grouped into objects.

On the host: the groups are found one after the other, each by a few operations on all keypoints. T keypoints of one
kind, G groups.
"""

import numpy as np

from .keypoints import KINDS, OTHERS


def group_keypoints(
    confidence: np.ndarray, position: np.ndarray, others: np.ndarray, match_distance: float, start_distance: float
) -> np.ndarray:
    """Greedy grouping from the most confident keypoint on (released).

    A group starts at the most confident keypoint that is in no group and further than ``start_distance`` from every
    keypoint of its kind that is in one. Along each edge of the graph it goes to where the mid offset points, and takes
    the nearest keypoint of the other kind that is within ``match_distance`` and in no group yet. Breadth first on a
    complete graph, these are the four edges of the start.

    Args:
        confidence: (5, T), 0 where there is no keypoint.
        position: (5, T, 2).
        others: (5, T, 4, 2), see ``hough.Keypoints``.
        match_distance, start_distance: in the unit of the positions.

    Returns:
        (G, 5) int64: the keypoint of each kind, -1 for none; the group of the most confident start first.
    """
    num_kinds, number = confidence.shape
    kinds = np.arange(num_kinds)
    is_free = confidence > 0
    is_start = is_free.copy()
    groups = []
    for start in np.argsort(-confidence, axis=None, kind="stable")[: is_free.sum()].tolist():
        kind, index = divmod(start, number)
        if not (is_start[kind, index] and is_free[kind, index]):
            continue
        target = np.full((num_kinds, 1, 2), np.inf)
        target[OTHERS[kind], 0] = others[kind, index]
        distance = np.where(is_free, ((position - target) ** 2).sum(2), np.inf)
        group = distance.argmin(1)
        is_found = distance[kinds, group] <= match_distance**2
        group[kind], is_found[kind] = index, True
        is_free[kinds[is_found], group[is_found]] = False
        near = ((position - position[kinds, group][:, None]) ** 2).sum(2) <= start_distance**2
        is_start &= ~(near & is_found[:, None])
        groups.append(np.where(is_found, group, -1))
    return np.array(groups, np.int64).reshape(-1, len(KINDS))
