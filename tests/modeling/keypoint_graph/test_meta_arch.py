"""The whole baseline."""

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from objguided_d2 import get_cfg
from objguided_d2.modeling import KeypointGraphRCNN, ragged_masks
from objguided_d2.structures.ragged_masks import RaggedMasks
from tests.modeling.models import disk_batch, training_losses

LOSSES = {"loss_keypoint", "loss_short_offset", "loss_mid_offset", "loss_mask"}


def tiny_cfg(num_classes: int = 1) -> CfgNode:
    cfg = get_cfg("configs/Base-keypoint-graph.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.UNET.C1_CHANNELS = 4
    cfg.MODEL.KEYPOINT_GRAPH.DECODER_CHANNELS = [8, 8, 8, 8]
    cfg.MODEL.KEYPOINT_GRAPH.HEAD_KERNEL = 3
    cfg.MODEL.ROI_MASK_HEAD.LADDER_CHANNELS = [8, 8, 8, 8]
    cfg.MODEL.ROI_MASK_HEAD.SEG_HEAD_DIM = 8
    return cfg


@pytest.fixture(scope="module")
def model() -> KeypointGraphRCNN:
    """Untrained, but it detects things: its maps differ from cell to cell, and masks start at a half."""
    torch.manual_seed(0)
    cfg = tiny_cfg(num_classes=2)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.KEYPOINT_GRAPH.TOPK, cfg.MODEL.KEYPOINT_GRAPH.PEAK_THRESH = 8, 0.0
    cfg.MODEL.ROI_MASK_HEAD.MASK_THRESH = 0.4
    model = build_model(cfg)
    training_losses(model, disk_batch([(64, 64)] * 4, [3] * 4))
    for head in model.proposal_generator.heads:
        torch.nn.init.normal_(head.keypoint[-1].weight, std=0.2)
        torch.nn.init.zeros_(head.keypoint[-1].bias)
    return model.eval()


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("counts", [[3, 2], [2, 0], [0, 0]])
def test_every_parameter_gets_a_gradient_whatever_the_batch_holds(counts, amp):
    torch.manual_seed(0)
    model = build_model(tiny_cfg(num_classes=2))
    batch = disk_batch([(50, 64), (64, 75)], counts, num_classes=2)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        losses = training_losses(model, batch)
    assert set(losses) == LOSSES
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert (losses["loss_mask"] == 0) == (counts == [0, 0])


def test_a_region_without_annotations_is_no_background():
    torch.manual_seed(0)
    model = build_model(tiny_cfg())
    batch = disk_batch([(48, 64)], [0])
    before = training_losses(model, batch)
    batch[0]["ignore_region"] = torch.ones(48, 64, dtype=torch.bool)
    after = training_losses(model, batch)
    assert before["loss_keypoint"] > after["loss_keypoint"] == 0


def test_an_image_gives_the_same_instances_alone_and_in_any_batch(model):
    batch = disk_batch([(50, 75), (64, 80), (33, 120)], [3, 4, 2])
    with torch.no_grad():
        alone = [model([inputs])[0]["instances"] for inputs in batch]
        together = [output["instances"] for output in model(batch)]
    assert any(len(instances) > 3 for instances in alone)
    for one, other, inputs in zip(alone, together, batch):
        assert one.image_size == (inputs["height"], inputs["width"]) and len(one) == len(other)
        torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=0)
        assert (one.pred_masks != other.pred_masks).float().mean() < 1e-3


def test_masks_are_ragged_where_they_are_asked_for_and_mixed_precision_detects(model):
    (inputs,) = disk_batch([(64, 80)], [3])
    with torch.no_grad(), ragged_masks(model), torch.autocast("cpu", torch.bfloat16):
        instances = model([inputs])[0]["instances"]
    assert isinstance(instances.pred_masks, RaggedMasks) and len(instances) > 3
    assert instances.scores.dtype == instances.pred_boxes.tensor.dtype == torch.float32
    with pytest.raises(NotImplementedError, match="KeypointGraphRCNN cannot be traced or scripted"):
        torch.jit.script(model)


def test_parts_that_do_not_fit_are_refused_in_one_line():
    cfg = tiny_cfg()
    cfg.TEST.ORIENTATIONS = 8
    with pytest.raises(ValueError, match="TEST.ORIENTATIONS is 8.*set it to 1"):
        build_model(cfg)
    cfg = tiny_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME, cfg.MODEL.CENTER_HEAD.IN_FEATURE = "CenterKeypointProposals", "res2"
    with pytest.raises(ValueError, match="needs MODEL.PROPOSAL_GENERATOR.NAME KeypointGraphProposals"):
        build_model(cfg)
    cfg = tiny_cfg()
    cfg.MODEL.KEYPOINT_GRAPH.IN_FEATURES = ["c1", "c3"]
    with pytest.raises(ValueError, match="IN_FEATURES has 'c3', not one of .'c1', 'c2', 'res2', 'res3', 'res4'"):
        build_model(cfg)
