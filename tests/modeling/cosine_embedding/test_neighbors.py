import pytest
import torch
from torch import Tensor

from objguided_d2.modeling.cosine_embedding.neighbors import find_neighbors
from objguided_d2.modeling.label_map import IGNORED


def neighbors_one_by_one(label_map: Tensor, num_objects: int, distance: int) -> set[tuple[int, int]]:
    """Pairs of a label and a flat index, by the distances between all pixels of an object and all others."""
    height, width = label_map.shape
    pixels = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1).view(-1, 2)
    flat = label_map.flatten()
    pairs = {(0, p) for p in (flat > 0).nonzero()[:, 0].tolist()}
    for label in range(1, num_objects + 1):
        others = ((flat != label) & (flat != IGNORED)).nonzero()[:, 0].tolist()
        own = pixels[flat == label]
        for p in others:
            if len(own) and ((own - pixels[p]) ** 2).sum(1).min() <= distance**2:
                pairs.add((label, p))
    return pairs


@pytest.mark.parametrize("distance", [1, 4, 15])
def test_neighbors_are_the_pixels_of_others_that_are_near(distance):
    label_map = torch.zeros(24, 37, dtype=torch.int64)
    label_map[2:9, 3:5] = 1
    label_map[4:6, 5:16] = 2  # Touches the first.
    label_map[17:24, 30:37] = 4  # In the corner; label 3 has no pixel.
    label_map[20, 8] = 5
    label_map[0:4, 28:37] = IGNORED
    found = find_neighbors(label_map, 5, distance)
    pairs = list(zip(found.label.tolist(), found.pixel.tolist()))
    assert len(set(pairs)) == len(pairs) and set(pairs) == neighbors_one_by_one(label_map, 5, distance)


def test_many_objects_of_all_sizes_do_not_mix():
    generator = torch.Generator().manual_seed(0)
    label_map = torch.randint(0, 7, (19, 23), generator=generator) * torch.randint(0, 2, (19, 23), generator=generator)
    label_map[:, 11:15] = 7
    found = find_neighbors(label_map, 7, 3)
    assert set(zip(found.label.tolist(), found.pixel.tolist())) == neighbors_one_by_one(label_map, 7, 3)


@pytest.mark.parametrize("value", [0, IGNORED])
def test_no_object_has_no_neighbors(value):
    found = find_neighbors(torch.full((5, 6), value), 0, 15)
    assert len(found.label) == len(found.pixel) == 0
