import numpy as np
import pytest
import torch

from objguided_d2.modeling.keypoint_graph.keypoints import OTHERS
from objguided_d2.modeling.keypoint_graph.targets import encode
from tests.reference import keypoint_graph as plain


def test_an_asymmetric_box_at_stride_4():
    box = torch.tensor([[2.0, 8.0, 50.0, 28.0]])
    targets = encode(box, torch.tensor([1]), torch.tensor([2]), (2, 3, 12, 16), stride=4, radius=1.2)
    assert targets.keypoint.shape == (2, 3, 5, 12, 16)
    assert targets.keypoint[1, 2].sum() == targets.keypoint.sum() == len(targets.cell)
    # Top left is at ((2 + 1/2) / 4 - 1/2, (8 + 1/2) / 4 - 1/2) = (0.125, 1.625): within 1.2 are these cells.
    rows, columns = targets.keypoint[1, 2, 0].nonzero().t().tolist()
    assert sorted(zip(rows, columns)) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    at = (targets.cell == ((1 * 5 + 0) * 12 + 1) * 16 + 1).nonzero().item()
    torch.testing.assert_close(targets.short[at], torch.tensor([-0.875, 0.625]))
    # From that cell to top right, bottom left, bottom right and the center.
    expected = torch.tensor([[10.875, 0.625], [-0.875, 5.375], [10.875, 5.375], [5.0, 3.0]])
    torch.testing.assert_close(targets.mid[at], expected)


@pytest.mark.parametrize("stride, radius", [(1, 5.0), (2, 3.5), (8, 5.0)])
def test_targets_equal_those_of_a_loop_over_cells(stride, radius):
    rng = np.random.default_rng(1)
    height, width, counts = 48 // stride, 64 // stride, [4, 0, 3]
    corners = rng.uniform([-3, -3, 8, 8], [40, 30, 64, 48], (sum(counts), 4))
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + 1 + corners[:, 2:] / 3], 1).astype(np.float32)
    image, classes = np.repeat(np.arange(3), counts), rng.integers(0, 2, sum(counts))
    targets = encode(*map(torch.from_numpy, (boxes, image, classes)), (3, 2, height, width), stride, radius)
    owned = torch.zeros(3 * 5 * height * width, dtype=torch.bool)
    owned[targets.cell] = True
    assert len(targets.cell) == owned.sum()
    short, mid = torch.zeros(len(owned), 2), torch.zeros(len(owned), 4, 2)
    short[targets.cell], mid[targets.cell] = targets.short, targets.mid
    for i in range(3):
        for label in range(2):
            of_class = plain.targets(boxes[(image == i) & (classes == label)], height, width, stride, radius)
            np.testing.assert_array_equal(targets.keypoint[i, label], of_class[0])
        in_disc, expected_short, expected_mid = plain.targets(boxes[image == i], height, width, stride, radius)
        np.testing.assert_array_equal(owned.view(3, 5, height, width)[i], in_disc)
        found = short.view(3, 5, height, width, 2)[i].movedim(-1, 1)
        np.testing.assert_allclose(found, expected_short, atol=1e-4)
        for kind in range(5):
            found = mid.view(3, 5, height, width, 4, 2)[i, kind].movedim((2, 3), (0, 1))
            np.testing.assert_allclose(found, expected_mid[kind, list(OTHERS[kind])], atol=1e-4)


def test_a_cell_in_two_discs_belongs_to_the_nearer_keypoint_and_of_ties_to_the_first():
    boxes = torch.tensor([[4.0, 2.0, 9.0, 9.0], [8.0, 2.0, 13.0, 9.0]])
    targets = encode(boxes, torch.tensor([0, 0]), torch.tensor([0, 0]), (1, 1, 16, 20), stride=1, radius=5.0)
    short = {cell: vector for cell, vector in zip(targets.cell.tolist(), targets.short[:, 0].tolist())}
    assert [short[2 * 20 + x] for x in range(3, 10)] == [1, 0, -1, -2, 1, 0, -1]


def test_no_objects_give_empty_targets():
    none = torch.zeros(0, dtype=torch.int64)
    targets = encode(torch.zeros(0, 4), none, none, (2, 1, 8, 12), stride=1, radius=5.0)
    assert targets.keypoint.shape == (2, 1, 5, 8, 12) and not targets.keypoint.any()
    assert targets.cell.shape == (0,) and targets.short.shape == (0, 2) and targets.mid.shape == (0, 4, 2)
