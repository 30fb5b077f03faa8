import numpy as np
import pytest

from objguided_d2.modeling.keypoint_graph.grouping import group_keypoints
from objguided_d2.modeling.keypoint_graph.keypoints import OTHERS
from tests.reference import keypoint_graph as plain


def keypoints_of(objects: np.ndarray, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """The arguments of ``group_keypoints`` for objects (M, 5, 2), moved by noise, in any order."""
    number = len(objects)
    order = np.stack([rng.permutation(number) for _ in range(5)])
    position = np.stack([objects[order[kind], kind] for kind in range(5)])
    others = np.stack([objects[order[kind]][:, OTHERS[kind]] for kind in range(5)])
    confidence = rng.permutation(np.linspace(0.1, 1, 5 * number)).reshape(5, number)
    return confidence, position + rng.normal(0, noise, position.shape), others + rng.normal(0, noise, others.shape)


def random_objects(number: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    corner, size = rng.uniform(0, spread, (number, 2)), rng.uniform(5, 25, (number, 2))
    return np.stack([plain.keypoints_of_box(*c, *(c + s), stride=1) for c, s in zip(corner, size)])


@pytest.mark.parametrize("spread", [40, 120, 400])
def test_groups_equal_those_of_a_loop(spread):
    rng = np.random.default_rng(spread)
    confidence, position, others = keypoints_of(random_objects(30, spread, rng), 2.0, rng)
    confidence[rng.random(confidence.shape) < 0.2] = 0
    found = group_keypoints(confidence, position, others, match_distance=6.0, start_distance=10.0)
    keypoints = [
        {
            "kind": kind,
            "index": index,
            "confidence": confidence[kind, index],
            "position": position[kind, index],
            "others": dict(zip(OTHERS[kind], others[kind, index])),
        }
        for kind, index in np.argwhere(confidence > 0)
    ]
    expected = [
        [group[kind]["index"] if kind in group else -1 for kind in range(5)]
        for group in plain.groups(keypoints, match_distance=6.0, start_distance=10.0)
    ]
    assert found.tolist() == expected and len(expected) > 5


def test_objects_apart_are_grouped_whole():
    rng = np.random.default_rng(0)
    objects = np.stack([plain.keypoints_of_box(x, y, x + 12, y + 25, 1) for x in (0, 30, 60) for y in (5, 50)])
    confidence, position, others = keypoints_of(objects, 0.0, rng)
    groups = group_keypoints(confidence, position, others, match_distance=6.0, start_distance=10.0)
    assert len(groups) == 6 and (groups >= 0).all()
    found = position[np.arange(5), groups]
    assert {tuple(group.ravel()) for group in found} == {tuple(group.ravel()) for group in objects}


def test_a_keypoint_near_one_of_its_kind_in_a_group_starts_none_and_belongs_to_one_group():
    position, others = np.zeros((5, 2, 2)), np.full((5, 2, 4, 2), np.inf)
    confidence = np.array([[1.0, 0.5], [0.9, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    position[0, 1], position[1, 0] = (9, 0), (20, 0)
    others[0, :, 0] = (20, 0)
    for distance, expected in ((10, [[0, 0, -1, -1, -1]]), (8, [[0, 0, -1, -1, -1], [1, -1, -1, -1, -1]])):
        found = group_keypoints(confidence, position, others, match_distance=6.0, start_distance=distance)
        assert found.tolist() == expected


def test_no_keypoints_give_no_groups():
    assert group_keypoints(np.zeros((5, 0)), np.zeros((5, 0, 2)), np.zeros((5, 0, 4, 2)), 6.0, 10.0).shape == (0, 5)
