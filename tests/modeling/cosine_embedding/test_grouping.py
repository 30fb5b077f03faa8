import numpy as np
import pytest

from objguided_d2.modeling.cosine_embedding.grouping import (
    SAME_COSINE,
    cluster,
    group_embeddings,
    join,
    largest_mode,
    mean_directions,
    merge_alike,
)

OPTIONS = {"coordinate_scale": 0.05, "min_area": 13, "max_samples": 5000}
SIZE = (72, 90)


def disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=0)).astype(np.float32)


def embed(objects: list[tuple[np.ndarray, int]], noise: float = 0.05, background: int = 15) -> np.ndarray:
    """Noisy embeddings of objects, each along an axis of its own choice."""
    axis = np.full(SIZE, background)
    for mask, direction in objects:
        axis[mask] = direction
    values = np.eye(16)[axis].transpose(2, 0, 1)
    return unit(values + np.random.default_rng(0).normal(size=values.shape) * noise)


def assert_found(label_map: np.ndarray, masks: list[np.ndarray], at_least: float = 0.97) -> None:
    """Every mask has a label of its own, and there is no other."""
    assert label_map.max() == len(masks)
    owners = [np.bincount(label_map[mask]).argmax() for mask in masks]
    assert sorted(owners) == list(range(1, len(masks) + 1))
    for owner, mask in zip(owners, masks):
        assert ((label_map == owner) & mask).sum() / ((label_map == owner) | mask).sum() >= at_least


OBJECTS = {
    "one": [(disc(30, 40, 14), 3)],
    "two that touch": [(disc(30, 30, 12), 0), (disc(30, 55, 12), 1)],
    "two alike, far apart": [(disc(20, 16, 10), 2), (disc(50, 70, 12), 2)],
    "a thin one along a large one": [(np.pad(np.ones((4, 70), bool), ((10, 58), (10, 10))), 4), (disc(36, 40, 20), 5)],
    "many": [
        (disc(y, x, 6), (i + 4 * j) % 15)
        for i, y in enumerate(range(8, 66, 14))
        for j, x in enumerate(range(8, 84, 14))
    ],
}


@pytest.mark.parametrize("which", OBJECTS)
def test_objects_are_found_whatever_they_are_beside(which):
    label_map, scores = group_embeddings(embed(OBJECTS[which]), **OPTIONS)
    assert_found(label_map, [mask for mask, _ in OBJECTS[which]])
    assert scores.dtype == np.float32 and (scores > 0.9).all() and (scores <= 1).all()


def test_the_rest_of_the_pixels_joins_the_clusters_of_a_subsample():
    objects = OBJECTS["two that touch"]
    label_map, _ = group_embeddings(embed(objects), **{**OPTIONS, "max_samples": 100})
    assert_found(label_map, [mask for mask, _ in objects])


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_background_alone_has_no_object(noise):
    label_map, scores = group_embeddings(embed([], noise), **OPTIONS)
    assert not label_map.any() and len(scores) == 0


def test_small_clusters_go():
    label_map, scores = group_embeddings(embed([(disc(30, 30, 9), 1), (disc(60, 60, 1.5), 2)]), **OPTIONS)
    assert_found(label_map, [disc(30, 30, 9)])


def test_what_is_not_finite_gives_no_object():
    label_map, scores = group_embeddings(np.full((16, *SIZE), np.nan, np.float32), **OPTIONS)
    assert not label_map.any() and len(scores) == 0


def test_the_score_is_the_mean_cosine_with_the_mean_embedding():
    embeddings = embed(OBJECTS["two that touch"], noise=0.2)
    label_map, scores = group_embeddings(embeddings, **OPTIONS)
    for label, score in enumerate(scores, start=1):
        own = embeddings[:, label_map == label]
        mean = own.mean(1) / np.linalg.norm(own.mean(1))
        assert score == pytest.approx(np.mean([mean @ one for one in own.T]), abs=1e-5)


def test_the_background_is_what_most_pixels_are_like():
    embeddings = embed([(disc(36, 45, 30), 0), (disc(36, 45, 15), 1)])
    assert largest_mode(embeddings).argmax() == 15 and np.linalg.norm(largest_mode(embeddings)) == pytest.approx(1)


def test_the_best_of_the_clusters_around_a_pixel_is_the_one_it_joins():
    rng = np.random.default_rng(0)
    means, grid = unit(rng.normal(size=(3, 5))).T, rng.integers(0, 5, (4, 6))
    points = unit(rng.normal(size=(3, 40))).T
    row, column = rng.integers(0, 4, 40), rng.integers(0, 6, 40)
    found = join(points, row, column, grid, means)
    for point, y, x, label in zip(points, row, column, found):
        near = set(grid[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].ravel().tolist()) - {0}
        cosine = {one: float(point @ means[one]) for one in near}
        best = max(cosine, key=cosine.get)
        assert label == (best if cosine[best] > SAME_COSINE else 0)


def test_clusters_merge_where_they_touch_and_are_alike():
    grid = np.array([[1, 1, 2, 0, 3], [1, 5, 2, 0, 3], [5, 5, 5, 0, 4]])
    angle = np.radians([0, 0, 30, 0, 20, 80])  # Of the means of clusters 0 to 5.
    merged = merge_alike(grid, np.stack([np.cos(angle), np.sin(angle)], 1))
    one, five, three = merged[0, 0], merged[1, 1], merged[0, 4]
    assert len({0, one, five, three}) == 4
    expected = [[one, one, one, 0, three], [one, five, one, 0, three], [five, five, five, 0, three]]
    assert merged.tolist() == expected


def test_clusters_are_those_of_points_far_from_one_another_and_noise_is_in_none():
    rng = np.random.default_rng(0)
    centers = np.array([[0.0, 0, 0], [5, 0, 0], [0, 9, 0]])
    points = np.concatenate([center + rng.normal(size=(20, 3)) * 0.1 for center in centers] + [[[50.0, 50, 50]]])
    found = cluster(points, np.array([0.0, 0, 7]), 5)
    assert found[-1] == 0 and len({*found[:60]}) == 3 and (found[:60] > 0).all()
    assert all(len({*part}) == 1 for part in found[:60].reshape(3, 20))


def test_mean_directions_are_of_length_one_and_zero_for_a_number_without_points():
    points = np.array([[1.0, 0], [0, 1], [0, 1]])
    means = mean_directions(points, np.array([1, 1, 3]))
    np.testing.assert_allclose(means, [[0, 0], [0.5**0.5, 0.5**0.5], [0, 0], [0, 1]], atol=1e-6)
