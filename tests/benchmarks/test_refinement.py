"""Where the refinement's points lie and what they ask for, on a tiny model."""

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch import nn

from benchmarks.refinement import PointCounts, compare_gradients, main, measure
from objguided_d2.modeling.mask_targets import ObjectMasks
from tests.finetuning.models import tiny_cfg
from tests.inference.models import busy_model, save_run


@pytest.fixture
def cfg(toy_data):
    cfg = tiny_cfg()
    cfg.DATASETS.TRAIN, cfg.INPUT.INTENSITY = ("toy_train",), ""
    cfg.MODEL.ROI_MASK_HEAD.REFINE.ENABLED, cfg.INPUT.MASK_FORMAT = True, "bitmask"
    crop = cfg.INPUT.SQUARE_CROP
    crop.ENABLED, crop.RELATIVE_TO, crop.RANGE, crop.OUTPUT_SIZE = True, "shorter", [0.5, 1.0], 64
    return cfg


def test_gradients_of_shared_parameters_are_compared_by_part():
    model = nn.ModuleDict({"backbone": nn.Linear(2, 1), "mask_head": nn.Linear(2, 1), "refinement": nn.Linear(2, 1)})
    backbone, head, refinement = (part.weight[0] for part in model.values())
    losses = {
        "loss_mask": 3 * backbone[0] + head[0],
        "loss_mask_dice": 1 * backbone[0] + head[1],
        "loss_refine": 2 * backbone[0] + 2 * head[0] + refinement.sum(),
        "loss_wh": 100 * backbone.sum(),
    }
    result = compare_gradients(model, losses)
    assert result["backbone"] == pytest.approx((0.5, 1.0))
    assert result["mask head"] == pytest.approx((2**0.5, 0.5**0.5))


def test_points_are_counted_by_their_distance_from_the_true_outline():
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[..., :10] = True
    truth = Instances((20, 20), gt_boxes=Boxes([[0, 0, 10, 20]]), gt_masks=BitMasks(mask))
    masks = ObjectMasks([truth]).select(torch.tensor([0]))
    x = torch.arange(4.0, 16.0)
    predicted = torch.where(x < 7, 0.9, 0.2)
    counts = PointCounts()
    counts.count("points", torch.zeros(12, dtype=torch.int64), (x, torch.full_like(x, 10.0)), predicted, masks)
    # Columns 9 and 10, 7 to 12, and on the wrong side 7 to 9.
    assert counts.rows()["points"] == pytest.approx([100 * 2 / 12, 50, 25])


def test_points_and_pixels_of_a_model_are_counted(cfg, tmp_path):
    run = save_run(cfg, busy_model(cfg), tmp_path / "run")
    torch.manual_seed(0)
    points, gradients = measure(cfg, run / "model_final.pth", batches=2)
    for values in points.values():
        within_1, within_3, wrong = values
        assert 0 < within_1 < within_3 < 100 and 0 < wrong < 100
    assert points["points"][2] != points["pixels"][2]
    assert set(gradients) == {"backbone", "mask head"}
    assert all(ratio > 0 and -1 <= cosine <= 1 for ratio, cosine in gradients.values())


def test_the_table_has_each_checkpoint_and_other_runs_are_one_line(cfg, tmp_path, capsys):
    run = save_run(cfg, busy_model(cfg), tmp_path / "run")
    assert main(["--run", str(run), "--batches", "1", "MODEL.ROI_MASK_HEAD.LOSS_TYPE", "bce"]) == 0
    assert capsys.readouterr().out.count("model_final.pth") == 4
    cfg.MODEL.ROI_MASK_HEAD.REFINE.ENABLED = False
    assert main(["--run", str(save_run(cfg, busy_model(cfg), tmp_path / "without"))]) == 1
    assert "trained without refinement" in capsys.readouterr().err
    assert main(["--run", str(run), "--weights", "none.pth"]) == 1
    assert "none.pth" in capsys.readouterr().err
