import pytest
import torch
import torch.nn.functional as F

from objguided_d2.modeling.dcan.losses import auxiliary_weight, contour_loss, object_loss
from objguided_d2.modeling.label_map import IGNORED


@pytest.fixture
def batch():
    torch.manual_seed(0)
    target = torch.randint(-1, 3, (2, 4, 5))
    return torch.randn(2, 3, 4, 5, requires_grad=True), target


def test_losses_are_those_of_the_counted_pixels_one_by_one(batch):
    logits, target = batch
    contours, counted = target == 2, target != IGNORED
    objects, total, weights = [], 0.0, 0.0
    for n, y, x in counted.nonzero().tolist():
        objects.append(F.cross_entropy(logits[n, :, y, x], target[n, y, x]))
        weight = 3.0 if contours[n, y, x] else 1.0
        total += weight * F.binary_cross_entropy_with_logits(logits[n, 0, y, x], contours[n, y, x].float())
        weights += weight
    torch.testing.assert_close(object_loss(logits, target), torch.stack(objects).mean())
    torch.testing.assert_close(contour_loss(logits[:, :1], contours, counted, 3.0), total / weights)


def test_where_all_is_ignored_losses_are_zero_and_keep_the_graph(batch):
    logits, target = batch
    nothing = torch.zeros_like(target, dtype=torch.bool)
    loss = object_loss(logits, torch.full_like(target, IGNORED)) + contour_loss(logits[:, :1], ~nothing, nothing, 2.0)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_the_auxiliary_weight_falls_by_ten_after_every_period():
    assert [auxiliary_weight(i, 100) for i in (0, 99, 100, 250)] == pytest.approx([1, 1, 0.1, 0.01])
