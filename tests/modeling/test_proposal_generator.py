"""Losses of the center head: each by its own setting and weight; proposals of a batch, by hand."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.utils.events import EventStorage

from objguided_d2.modeling.center_targets import CenterTargets
from objguided_d2.modeling.proposal_generator import CenterKeypointProposals
from tests.modeling.models import small_cfg


def make_generator(num_classes=1, **settings) -> CenterKeypointProposals:
    cfg = small_cfg(num_classes)
    for key, value in settings.items():
        cfg.MODEL.CENTER_HEAD[key] = value
    return CenterKeypointProposals(cfg, {"c3": ShapeSpec(channels=4, stride=4)})


def losses_of_one_center(**settings) -> list[float]:
    """Of a center whose size is off by 0.5 and 3 and whose offset by 0.25 and 0.5; every probability is 1/2."""
    settings = dict.fromkeys(["HEATMAP_LOSS_WEIGHT", "WH_LOSS_WEIGHT", "OFFSET_LOSS_WEIGHT"], 1.0) | settings
    targets = CenterTargets(
        heatmap=torch.tensor([[[[1.0, 0.5]]]]),
        cell=torch.tensor([0]),
        wh=torch.tensor([[4.0, 2.0]]),
        offset=torch.tensor([[0.5, 0.5]]),
    )
    wh, offset = torch.tensor([[4.5, 5.0]]), torch.tensor([[0.75, 0.0]])
    with EventStorage():
        losses = make_generator(**settings).losses(torch.zeros(1, 1, 1, 2), wh, offset, targets)
    return [losses[name].item() for name in ("loss_center_heatmap", "loss_wh", "loss_offset")]


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"FOCAL_ALPHA": 2.0, "FOCAL_BETA": 4.0}, {0: math.log(2) * (0.5**2 + 0.5**2 * 0.5**4)}),
        ({"FOCAL_ALPHA": 3.0, "FOCAL_BETA": 1.0}, {0: math.log(2) * (0.5**3 + 0.5**3 * 0.5)}),
        ({"REG_LOSS_TYPE": "l1"}, {1: 3.5 / 2, 2: 0.75 / 2}),
        ({"SMOOTH_L1_BETA": 1.0}, {1: (0.5**2 / 2 + 2.5) / 2, 2: (0.25**2 / 2 + 0.5**2 / 2) / 2}),
        ({"SMOOTH_L1_BETA": 0.4}, {1: (0.3 + 2.8) / 2, 2: (0.25**2 / 0.8 + 0.3) / 2}),
    ],
)
def test_each_loss_follows_its_settings(settings, expected):
    losses = losses_of_one_center(**settings)
    for index, value in expected.items():
        assert losses[index] == pytest.approx(value)


def test_each_loss_has_a_weight_of_its_own():
    plain = losses_of_one_center()
    weights = {"HEATMAP_LOSS_WEIGHT": 2.0, "WH_LOSS_WEIGHT": 3.0, "OFFSET_LOSS_WEIGHT": 5.0}
    weighted = losses_of_one_center(**weights)
    assert weighted == pytest.approx([weight * loss for weight, loss in zip(weights.values(), plain)])


def test_proposals_of_a_batch_by_hand():
    """Two images, whose maps have 3 x 5 cells of 4 pixels; sizes and offsets name the cell that they were read at."""
    heatmap = torch.full((2, 2, 3, 5), -9.0)
    heatmap[0, 1, 2, 1], heatmap[1, 0, 0, 3], heatmap[1, 1, 1, 0] = 2.0, 1.0, 3.0
    asked = []

    def wh_and_offset(cell):
        asked.extend(cell.tolist())
        return torch.tensor([[2.0, 1.0]]).repeat(len(cell), 1), torch.tensor([[0.5, 0.25]]).repeat(len(cell), 1)

    generator = make_generator(num_classes=2)
    generator.score_thresh = 0.6
    first, second = generator.propose(heatmap, wh_and_offset, [(12, 20), (12, 20)])
    # Cell (row, column) of image n is n * 15 + row * 5 + column; best first.
    assert asked == [2 * 5 + 1, 15 + 5, 15 + 3]
    assert first.proposal_classes.tolist() == [1] and second.proposal_classes.tolist() == [1, 0]
    assert first.proposal_boxes.tensor.tolist() == [[2.0, 7.0, 10.0, 11.0]]
    assert second.proposal_boxes.tensor.tolist() == [[-2.0, 3.0, 6.0, 7.0], [10.0, -1.0, 18.0, 3.0]]
    # sigmoid(0.4) is just under, sigmoid(0.41) just above 0.6.
    heatmap[0, 1, 2, 1], heatmap[1, 0, 0, 3] = 0.4, 0.41
    assert [len(p) for p in generator.propose(heatmap, wh_and_offset, [(12, 20), (12, 20)])] == [0, 2]
