"""Keypoint Graph in loops over cells and keypoints, one image and one class at a time."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter

KINDS = 5


def keypoints_of_box(x1: float, y1: float, x2: float, y2: float, stride: int) -> np.ndarray:
    """(5, 2) index coordinates on a map: corners top left, top right, bottom left, bottom right, and the center."""
    left, top, right, bottom = x1 + 0.5, y1 + 0.5, x2 - 0.5, y2 - 0.5
    points = [(left, top), (right, top), (left, bottom), (right, bottom), ((left + right) / 2, (top + bottom) / 2)]
    return np.array(points) / stride - 0.5


def targets(boxes: list, height: int, width: int, stride: int, radius: float) -> tuple[np.ndarray, ...]:
    """Whether each cell is in a disc (5, H, W), its short offset (5, 2, H, W) and its mid offsets (5, 5, 2, H, W)."""
    objects = [keypoints_of_box(*box, stride) for box in boxes]
    in_disc = np.zeros((KINDS, height, width))
    short, mid = np.zeros((KINDS, 2, height, width)), np.zeros((KINDS, KINDS, 2, height, width))
    for kind in range(KINDS):
        for y in range(height):
            for x in range(width):
                distances = [math.dist(points[kind], (x, y)) for points in objects]
                if distances and min(distances) <= radius:
                    points = objects[distances.index(min(distances))]
                    in_disc[kind, y, x] = 1
                    short[kind, :, y, x] = points[kind] - (x, y)
                    mid[kind, :, :, y, x] = points - (x, y)
    return in_disc, short, mid


def votes(probability: np.ndarray, short: np.ndarray, size: tuple[int, int], radius: float) -> np.ndarray:
    """(H, W) and (2, H, W) of one kind -> (H, W)."""
    result = np.zeros_like(probability)
    rows, columns = size
    for y in range(rows):
        for x in range(columns):
            vote_x, vote_y = x + short[0, y, x], y + short[1, y, x]
            if not (-0.5 <= vote_x <= columns - 0.5 and -0.5 <= vote_y <= rows - 0.5):
                continue
            vote_x, vote_y = min(max(vote_x, 0), columns - 1), min(max(vote_y, 0), rows - 1)
            for cell_y in (math.floor(vote_y), math.floor(vote_y) + 1):
                for cell_x in (math.floor(vote_x), math.floor(vote_x) + 1):
                    weight = (1 - abs(cell_x - vote_x)) * (1 - abs(cell_y - vote_y))
                    if weight > 0:
                        result[cell_y, cell_x] += probability[y, x] * weight / (math.pi * radius**2)
    return result


def blurred(plane: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W) -> (H, W), zeros outside."""
    return gaussian_filter(plane, sigma, mode="constant", truncate=4)


def peaks(plane: np.ndarray, threshold: float) -> list[tuple[float, int, int]]:
    """(value, y, x) of the cells above the threshold and above their four neighbors, best first."""
    height, width = plane.shape
    found = []
    for y in range(height):
        for x in range(width):
            neighbors = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            values = [plane[i, j] for i, j in neighbors if 0 <= i < height and 0 <= j < width]
            if plane[y, x] > threshold and plane[y, x] > max(values):
                found.append((plane[y, x], y, x))
    return sorted(found, reverse=True)


def groups(keypoints: list[dict], match_distance: float, start_distance: float) -> list[dict[int, dict]]:
    """Greedy grouping.

    Args:
        keypoints: "kind", "confidence", "position" and "others": kind -> position; no two of one confidence.

    Returns:
        the keypoint of each kind that was found, for every group in order.
    """
    waiting = sorted(keypoints, key=lambda keypoint: -keypoint["confidence"])
    free, found = list(waiting), []
    for start in waiting:
        if not any(start is other for other in free):
            continue
        same = [group[start["kind"]] for group in found if start["kind"] in group]
        if any(math.dist(start["position"], other["position"]) <= start_distance for other in same):
            continue
        free = [other for other in free if other is not start]
        group = {start["kind"]: start}
        for kind, target in start["others"].items():
            candidates = [other for other in free if other["kind"] == kind]
            candidates.sort(key=lambda other: math.dist(other["position"], target))
            if candidates and math.dist(candidates[0]["position"], target) <= match_distance:
                group[kind] = candidates[0]
                free = [other for other in free if other is not candidates[0]]
        found.append(group)
    return found


def box(points: dict[int, tuple[float, float]]) -> tuple[float, ...] | None:
    """XYXY of the keypoints of a group in continuous coordinates, case by case; None if they make no box."""
    corners = sorted(set(points) - {4})
    if len(points) < 3 and corners not in ([0, 3], [1, 2]):
        return None
    lefts, rights = ([points[k][0] for k in pair if k in points] for pair in ((0, 2), (1, 3)))
    tops, bottoms = ([points[k][1] for k in pair if k in points] for pair in ((0, 1), (2, 3)))
    if corners == [0, 2]:
        rights = [2 * points[4][0] - min(lefts)]
    elif corners == [1, 3]:
        lefts = [2 * points[4][0] - max(rights)]
    elif corners == [0, 1]:
        bottoms = [2 * points[4][1] - min(tops)]
    elif corners == [2, 3]:
        tops = [2 * points[4][1] - max(bottoms)]
    result = min(lefts) - 0.5, min(tops) - 0.5, max(rights) + 0.5, max(bottoms) + 0.5
    return result if result[2] > result[0] and result[3] > result[1] else None
