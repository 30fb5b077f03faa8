import math

import pytest
import torch

from objguided_d2.modeling.keypoint_graph.losses import keypoint_loss, offset_loss


def maps() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 5, 3, 4, generator=generator)
    return logits, (torch.rand(logits.shape, generator=generator) < 0.3).float()


def cross_entropy(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -math.log(p if target else 1 - p)


def test_keypoint_loss_is_the_mean_over_cells():
    logits, target = maps()
    terms = [cross_entropy(*pair) for pair in zip(logits.flatten().tolist(), target.flatten().tolist())]
    assert keypoint_loss(logits, target) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_ignored_cells_count_in_discs_alone():
    logits, target = maps()
    ignored = torch.zeros(2, 3, 4, dtype=torch.bool)
    ignored[0, 1:] = True
    terms = []
    for index in torch.cartesian_prod(*map(torch.arange, logits.shape)).tolist():
        image, _, _, y, x = index
        if not ignored[image, y, x] or target[tuple(index)]:
            terms.append(cross_entropy(logits[tuple(index)].item(), target[tuple(index)].item()))
    assert len(terms) < logits.numel()
    assert keypoint_loss(logits, target, ignored) == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    nothing = keypoint_loss(logits, torch.zeros_like(target), torch.ones_like(ignored))
    assert nothing == 0


def test_offset_loss_is_the_mean_distance_in_radii():
    predicted, target = torch.tensor([[1.0, 2.0], [-3.0, 0.0]]), torch.tensor([[0.0, 4.0], [-3.0, 5.0]])
    assert offset_loss(predicted, target, radius=5.0) == pytest.approx((1 + 2 + 0 + 5) / 4 / 5)


def test_no_cells_give_a_zero_that_keeps_the_graph():
    predicted = torch.zeros(3, 4, 2, requires_grad=True)
    loss = offset_loss(predicted[torch.zeros(0, dtype=torch.int64)], torch.zeros(0, 4, 2), radius=5.0)
    loss.backward()
    assert loss == 0 and torch.equal(predicted.grad, torch.zeros_like(predicted))
