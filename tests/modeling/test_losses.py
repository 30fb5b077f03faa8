"""Detection and mask losses, against released values, the plain reference and hand-computed cases."""

import math

import pytest
import torch

from objguided_d2.modeling.losses import center_regression_loss, heatmap_focal_loss, soft_dice_loss
from tests.reference import centers as reference


class TestHeatmapFocalLoss:
    def test_gives_the_released_value(self, golden):
        values = golden("focal_loss")
        loss = heatmap_focal_loss(torch.logit(values["pred"].double()), values["target"])
        # Relative: the loss is 55, where float32 has steps of 4e-6.
        torch.testing.assert_close(loss.double(), values["loss"], atol=0, rtol=1e-6)

    @pytest.mark.parametrize("alpha, beta", [(2.0, 4.0), (1.5, 0.0), (0.0, 3.0)])
    def test_equals_the_reference(self, alpha, beta):
        generator = torch.Generator().manual_seed(0)
        logits = 3 * torch.randn(2, 3, 7, 9, generator=generator)
        target = torch.rand(2, 3, 7, 9, generator=generator)
        target[0, 0, 2, 3] = target[1, 2, 6, 8] = 1
        loss = heatmap_focal_loss(logits, target, alpha, beta)
        expected = reference.heatmap_focal_loss(logits.double().sigmoid(), target.double(), alpha, beta)
        torch.testing.assert_close(loss.double(), expected, atol=0, rtol=1e-5)

    def test_hand_computed(self):
        # One center and one cell half a Gaussian away, both at probability 1/2.
        loss = heatmap_focal_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.5]]]]))
        assert loss.item() == pytest.approx(math.log(2) * (0.5**2 + 0.5**2 * 0.5**4))

    def test_without_centers_is_the_sum_over_the_background(self):
        loss = heatmap_focal_loss(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))
        assert loss.item() == pytest.approx(24 * math.log(2) * 0.25)

    @pytest.mark.parametrize("logit", [-1e4, -90.0, 90.0, 1e4])
    def test_wild_logits_give_finite_loss_and_gradient(self, logit):
        logits = torch.full((1, 1, 1, 2), logit, requires_grad=True)
        loss = heatmap_focal_loss(logits, torch.tensor([[[[1.0, 0.0]]]]))
        loss.backward()
        # Whichever of the two cells is wrong costs |logit|; the other one costs nothing.
        assert loss.item() == pytest.approx(abs(logit))
        assert logits.grad.isfinite().all()

    def test_right_prediction_costs_nothing(self):
        target = torch.zeros(1, 1, 4, 4)
        target[0, 0, 1, 2] = 1
        assert heatmap_focal_loss(target * 60 - 30, target).item() < 1e-9


class TestIgnoredCells:
    """Two images, three classes, about a third of the cells ignored, two centers of which one is in an ignored cell."""

    @pytest.fixture
    def example(self):
        generator = torch.Generator().manual_seed(0)
        logits = 3 * torch.randn(2, 3, 7, 9, generator=generator)
        target = torch.rand(2, 3, 7, 9, generator=generator)
        ignored = torch.rand(2, 7, 9, generator=generator) < 0.3
        target[0, 0, 2, 3] = target[1, 2, 6, 8] = 1
        ignored[0, 2, 3], ignored[1, 6, 8] = True, False
        return logits, target, ignored

    @pytest.mark.parametrize("alpha, beta", [(2.0, 4.0), (1.5, 0.0)])
    def test_equals_the_reference(self, example, alpha, beta):
        logits, target, ignored = example
        loss = heatmap_focal_loss(logits, target, alpha, beta, ignored)
        expected = reference.heatmap_focal_loss_loop(logits.double().sigmoid(), target.double(), ignored, alpha, beta)
        torch.testing.assert_close(loss.double(), expected, atol=0, rtol=1e-5)
        assert loss < heatmap_focal_loss(logits, target, alpha, beta)

    def test_nothing_ignored_is_the_plain_loss(self, example):
        logits, target, ignored = example
        plain = heatmap_focal_loss(logits, target)
        assert torch.equal(heatmap_focal_loss(logits, target, ignored=torch.zeros_like(ignored)), plain)
        none = torch.zeros_like(ignored)
        expected = reference.heatmap_focal_loss_loop(logits.double().sigmoid(), target.double(), none)
        torch.testing.assert_close(plain.double(), expected, atol=0, rtol=1e-5)

    def test_only_centers_learn_in_ignored_cells(self, example):
        logits, target, ignored = example
        background = ignored[:, None] & (target != 1)
        logits.requires_grad_()
        loss = heatmap_focal_loss(logits, target, ignored=ignored)
        loss.backward()
        assert torch.equal(logits.grad == 0, background)
        others = torch.where(background, 90.0, logits.detach())
        assert torch.equal(heatmap_focal_loss(others, target, ignored=ignored), loss.detach())

    def test_half_precision_logits(self, example):
        logits, target, ignored = example
        loss = heatmap_focal_loss(logits.bfloat16(), target, ignored=ignored)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, heatmap_focal_loss(logits.bfloat16().float(), target, ignored=ignored))


class TestCenterRegressionLoss:
    @pytest.mark.parametrize("beta", [1.0, 0.3])
    def test_equals_the_reference(self, beta):
        generator = torch.Generator().manual_seed(1)
        maps = 3 * torch.randn(2, 2, 6, 8, generator=generator)
        targets = [3 * torch.randn(m, 2, generator=generator) for m in (4, 1)]
        indices = [torch.randint(0, 48, (m,), generator=generator) for m in (4, 1)]
        predicted = torch.cat([values.flatten(1).T[index] for values, index in zip(maps, indices)])
        loss = center_regression_loss(predicted, torch.cat(targets), "smooth_l1", beta)
        torch.testing.assert_close(loss, reference.center_smooth_l1_loss(maps, targets, indices, beta))

    def test_l1_is_the_mean_over_centers_and_axes(self):
        predicted = torch.tensor([[1.0, -2.0], [0.0, 4.0]])
        assert center_regression_loss(predicted, torch.tensor([[0.0, 0.0], [0.5, 0.0]]), "l1").item() == 7.5 / 4

    @pytest.mark.parametrize("kind", ["smooth_l1", "l1"])
    def test_no_centers_keep_the_graph(self, kind):
        predicted = torch.zeros(0, 2, requires_grad=True)
        loss = center_regression_loss(predicted, torch.zeros(0, 2), kind)
        loss.backward()
        assert loss.item() == 0 and predicted.grad.shape == (0, 2)

    def test_half_precision_predictions_are_compared_in_float32(self):
        predicted = torch.full((1, 2), 1.0, dtype=torch.bfloat16)
        loss = center_regression_loss(predicted, torch.full((1, 2), 1.001), "l1")
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(0.001, rel=1e-3)


def test_soft_dice_loss():
    # A right mask of 10 pixels, a mask of 10 pixels that misses all 10 of the object, and an empty pair.
    intersection, area = torch.tensor([10.0, 0.0, 0.0]), torch.tensor([10.0, 10.0, 0.0])
    loss = soft_dice_loss(intersection, area, area)
    torch.testing.assert_close(loss, torch.tensor([0.0, 20 / 21, 0.0]))
