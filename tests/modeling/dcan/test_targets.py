import pytest
import torch

from objguided_d2.modeling.dcan.targets import dilate, outlines
from objguided_d2.modeling.label_map import IGNORED


def test_outlines_of_touching_objects_and_at_the_edge_of_an_image():
    label_map = torch.tensor(
        [
            [1, 1, 1, 1, 0, 0],
            [1, 1, 1, 1, 0, 0],
            [1, 1, 1, 2, 2, 2],
            [0, 0, 0, 2, 2, 2],
            [0, 0, 0, 2, 2, 2],
        ]
    )
    drawn = ["...#..", "...#..", "######", "...#..", "...#.."]
    # Left of the object in the corner there is nothing that it could differ from.
    expected = torch.tensor([[pixel == "#" for pixel in row] for row in drawn])
    assert torch.equal(outlines(label_map[None])[0], expected)


def test_what_is_ignored_has_no_outline_and_gives_none():
    label_map = torch.tensor([[[IGNORED, 1, 1, 0, IGNORED], [IGNORED, 1, 1, 1, IGNORED]]])
    assert outlines(label_map).tolist() == [[[False, False, True, False, False], [False, False, False, True, False]]]


def test_images_of_a_batch_do_not_mix():
    torch.manual_seed(0)
    label_maps = torch.randint(-1, 3, (3, 7, 9))
    alone = [outlines(label_map[None])[0] for label_map in label_maps]
    assert torch.equal(outlines(label_maps), torch.stack(alone))


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_dilation_covers_what_is_as_near_as_the_radius(radius):
    region = torch.zeros(2, 12, 15, dtype=torch.bool)
    region[0, 0, 2] = region[0, 7, 11] = region[0, 8, 11] = region[1, 6, 5] = True
    y, x = torch.meshgrid(torch.arange(12), torch.arange(15), indexing="ij")
    for image, found in zip(region, dilate(region, radius)):
        distances = [(y - row) ** 2 + (x - column) ** 2 for row, column in image.nonzero().tolist()]
        assert torch.equal(found, torch.stack(distances).amin(0) <= radius**2)
