"""From embeddings to objects: the largest cluster is the background, the others are objects.

One image of H x W pixels, E embedding channels, S sampled pixels, F pixels that are not background. Clustering takes
time by the square of the number of points, so a regular subsample is clustered and every other pixel joins one of the
clusters around it: the time of an image is bounded.
"""

import math

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..label_map import drop_small_labels

# Embeddings of a cluster have a cosine near 1 with its mean, those of its neighbors one near 0.
SAME_COSINE = 0.5
# Clusters that touch are one from this cosine of their means on: a rim that blends into the background has more, one
# halfway between two objects less with either.
ALIKE_COSINE = 0.8
# Pixels in which the background is looked for.
BACKGROUND_SAMPLES = 2000
# A pixel joins one of the clusters that have a sample within so many steps of the sampling grid.
REACH = 2


def group_embeddings(
    embeddings: np.ndarray, *, coordinate_scale: float, min_area: int, max_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    Args:
        embeddings: (E, H, W) float32 of length 1.
        coordinate_scale: what a pixel of distance adds to the distance of embeddings, which is at most 2. Objects far
            from one another may have the same embedding.
        min_area: clusters of fewer pixels are no objects.
        max_samples: about as many pixels are clustered, at most.

    Returns:
        (H, W) int64 with labels 0 to R, and the scores (R,) float32: the mean cosine of an object's embeddings with
        their mean.
    """
    labels = np.zeros(embeddings.shape[1:], np.int64)
    background = largest_mode(embeddings)
    row, column = np.nonzero(np.tensordot(background, embeddings, 1) < SAME_COSINE)
    points = embeddings[:, row, column].T
    step = _sampling_step(len(row), max_samples)
    is_sampled = (row % step == 0) & (column % step == 0)
    if is_sampled.sum() >= 2:
        coordinates = coordinate_scale * np.stack([row, column], 1)
        features = np.concatenate([points, coordinates], 1)[is_sampled]
        counterpart = np.concatenate([background, features[0, -2:]])
        clusters = cluster(features, counterpart, max(2, round(min_area / step**2)))
        grid = np.zeros([-(-side // step) for side in labels.shape], np.int64)
        grid[row[is_sampled] // step, column[is_sampled] // step] = clusters
        grid = merge_alike(grid, mean_directions(points[is_sampled], clusters))
        means = mean_directions(points[is_sampled], grid[row[is_sampled] // step, column[is_sampled] // step])
        labels[row, column] = join(points, row // step, column // step, grid, means)
    labels = drop_small_labels(labels, min_area)
    inside = labels[row, column]
    cosine = (points * mean_directions(points, inside)[inside]).sum(1)
    sums, counts = np.bincount(inside, cosine), np.bincount(inside)
    return labels, (sums / np.maximum(counts, 1))[1:].clip(0, 1).astype(np.float32)


def largest_mode(embeddings: np.ndarray) -> np.ndarray:
    """The mean of the embeddings that are like the one which most are like: (E, H, W) -> (E,) of length 1.

    It is that of the background: one step of mean shift on a regular subsample, from the densest point.
    """
    step = _sampling_step(embeddings[0].size, BACKGROUND_SAMPLES)
    points = embeddings[:, ::step, ::step].reshape(len(embeddings), -1)
    alike = points.T @ points > 1 - SAME_COSINE / 2
    direction = points[:, alike[alike.sum(1).argmax()]].sum(1)
    return direction / max(np.linalg.norm(direction), 1e-6)


def cluster(features: np.ndarray, counterpart: np.ndarray, min_size: int) -> np.ndarray:
    """HDBSCAN's clusters of points.

    Args:
        features: (S, D).
        counterpart: (D,) a cluster that there is besides. HDBSCAN finds two clusters or more, or none: it lets a single
            object be found, and is as far from it as another would be.
        min_size: points of a cluster, at least.

    Returns:
        (S,) int64 from 1 on, 0 for points in no cluster; a number may be without points.
    """
    from sklearn.cluster import HDBSCAN  # Takes a second to import, which other models need not wait for.

    # Points at one place would be infinitely dense.
    others = counterpart + np.linspace(0, 0.1, min_size)[:, None] / len(counterpart) ** 0.5
    clusterer = HDBSCAN(min_cluster_size=min_size, min_samples=min(min_size, 5), algorithm="kd_tree", copy=True)
    return clusterer.fit_predict(np.concatenate([features, others]))[: len(features)].astype(np.int64) + 1


def merge_alike(grid: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Make one cluster of those that touch and have alike means, as an object and its rim have.

    Args:
        grid: (h, w) int64 clusters, 0 for none.
        means: (1 + C, E) of length 1.

    Returns:
        (h, w) int64 other numbers of clusters, 0 for none.
    """
    sides = [(grid[:, 1:], grid[:, :-1]), (grid[1:], grid[:-1])]
    first, second = np.concatenate([[one.ravel(), other.ravel()] for one, other in sides], 1)
    touch = (first != second) & (first > 0) & (second > 0)
    first, second = first[touch], second[touch]
    alike = (means[first] * means[second]).sum(1) > ALIKE_COSINE
    links = coo_array((np.ones(alike.sum(), bool), (first[alike], second[alike])), shape=(len(means), len(means)))
    # Number 0 is linked to none, and the first to be numbered.
    return connected_components(links, directed=False)[1].astype(np.int64)[grid]


def join(points: np.ndarray, row: np.ndarray, column: np.ndarray, grid: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Let each pixel join the cluster around it that it is most like.

    Args:
        points: (F, E) of length 1.
        row, column: (F,) the cell of each in ``grid``.
        grid: (h, w) int64 the clusters of the samples, 0 for none.
        means: (1 + C, E) of length 1, of the clusters; the first is not looked at.

    Returns:
        (F,) int64, 0 where no cluster is near with a cosine above ``SAME_COSINE``.
    """
    around = np.pad(grid, REACH)
    best, label = np.full(len(points), SAME_COSINE), np.zeros(len(points), np.int64)
    for dy in range(2 * REACH + 1):
        for dx in range(2 * REACH + 1):
            candidate = around[row + dy, column + dx]
            cosine = np.where(candidate > 0, (points * means[candidate]).sum(1), -1)
            better = cosine > best
            best, label = np.where(better, cosine, best), np.where(better, candidate, label)
    return label


def mean_directions(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Unit vectors of the mean directions of labels 0 to the last: (F, E), (F,) -> (1 + C, E)."""
    sums = np.stack([np.bincount(labels, column, minlength=1) for column in points.T], 1)
    return (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _sampling_step(num_pixels: int, max_samples: int) -> int:
    """Of a regular grid that leaves some ``max_samples`` of the pixels."""
    return max(1, math.ceil(math.sqrt(num_pixels / max_samples)))
