"""Soft clDice on the canvas, against one ROI at a time and shapes whose skeletons are known."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from objguided_d2.modeling.cldice import soft_cldice_loss, soft_skeleton
from objguided_d2.structures.ragged_grid import RaggedGrid
from objguided_d2.structures.roi_canvas import RoiCanvas

CROSS = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
SQUARE = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def make_canvas(masks: list[Tensor]) -> RoiCanvas:
    heights, widths = torch.tensor([mask.shape for mask in masks]).unbind(1)
    return RoiCanvas(RaggedGrid(heights.contiguous(), widths.contiguous(), masks[0].device), len(masks))


def flat(masks: list[Tensor]) -> Tensor:
    return torch.cat([mask.flatten() for mask in masks])


def neighbors(mask: Tensor, offsets: list[tuple[int, int]], outside: float) -> Tensor:
    """(K, H, W): the neighbors at K offsets."""
    padded, (height, width) = F.pad(mask, (1, 1, 1, 1), value=outside), mask.shape
    return torch.stack([padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in offsets])


def erode(mask: Tensor) -> Tensor:
    return neighbors(mask, CROSS, float("inf")).amin(0)


def plain_skeleton(mask: Tensor, iterations: int) -> Tensor:
    """As the paper's Algorithm 1: the part that an opening removes, at every depth."""
    skeleton = torch.zeros_like(mask)
    for _ in range(iterations + 1):
        opened = neighbors(erode(mask), SQUARE, -float("inf")).amax(0)
        removed = (mask - opened).clamp(min=0)
        skeleton = skeleton + (removed - skeleton * removed).clamp(min=0)
        mask = erode(mask)
    return skeleton


def plain_loss(probability: Tensor, label: Tensor, iterations: int) -> Tensor:
    predicted, true = plain_skeleton(probability, iterations), plain_skeleton(label, iterations)
    precision = ((predicted * label).sum() + 1) / (predicted.sum() + 1)
    sensitivity = ((true * probability).sum() + 1) / (true.sum() + 1)
    return 1 - 2 * precision * sensitivity / (precision + sensitivity)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=8),
    st.integers(1, 4),
    st.integers(0, 9),
)
@settings(deadline=None, max_examples=30)
def test_loss_and_gradients_equal_those_of_one_roi_at_a_time(sizes, iterations, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = [torch.rand(size, generator=generator, dtype=torch.float64).requires_grad_() for size in sizes]
    labels = [(torch.rand(size, generator=generator) > 0.3).double() for size in sizes]
    canvas, weight = make_canvas(masks), torch.rand(len(sizes), generator=generator, dtype=torch.float64)
    loss = soft_cldice_loss(canvas, flat(masks), flat(labels), iterations)
    expected = torch.stack([plain_loss(*pair, iterations) for pair in zip(masks, labels)])
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad((loss * weight).sum(), masks)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weight).sum(), masks))


def test_the_skeleton_of_a_bar_is_its_middle_line_from_enough_erosions_on():
    bar = torch.zeros(9, 27)
    bar[2:7, 3:24] = 1
    middle = torch.zeros(9, 27)
    middle[4, 5:22] = 1
    canvas = make_canvas([bar, bar.t()])
    values = flat([bar, bar.t()])
    assert not soft_skeleton(canvas, values, 1).any()
    for iterations in (2, 7):
        assert torch.equal(soft_skeleton(canvas, values, iterations), flat([middle, middle.t()]))


def test_right_masks_cost_nothing_and_gaps_cost_by_their_length_along_the_object():
    line = torch.zeros(5, 25)
    line[2, 2:23] = 1
    gap = line.clone()
    gap[2, 10:15] = 0
    bar = torch.zeros(15, 25)
    bar[3:12, 2:23] = 1
    notch = bar.clone()
    notch[3, 10:15] = 0  # As many pixels, at the edge.
    canvas = make_canvas([line, line, bar, bar])
    loss = soft_cldice_loss(canvas, flat([line, gap, bar, notch]), flat([line, line, bar, bar]), 6)
    sensitivity = (16 + 1) / (21 + 1)
    assert loss.tolist()[:3] == pytest.approx([0, 1 - 2 * sensitivity / (1 + sensitivity), 0], abs=1e-6)
    assert loss[3] < loss[1] / 2


def test_empty_masks_and_saturated_probabilities_have_finite_gradients():
    masks = [torch.zeros(4, 5), torch.ones(3, 3), torch.rand(6, 2)]
    probability = flat(masks).requires_grad_()
    loss = soft_cldice_loss(make_canvas(masks), probability, flat([torch.ones(4, 5), *masks[1:]]), 3)
    assert ((loss >= 0) & (loss <= 1)).all()
    loss.sum().backward()
    assert probability.grad.isfinite().all()
