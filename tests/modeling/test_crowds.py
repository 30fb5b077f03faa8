"""Regions where objects are not annotated: crowds of COCO."""

import torch
from detectron2.modeling import build_model

from objguided_d2 import get_cfg
from tests.modeling.models import LOSSES, disk_batch, ignoring_batch, small_cfg, training_losses


def test_the_heatmap_learns_no_background_where_crowds_are(device):
    torch.manual_seed(0)
    model, heatmaps = build_model(small_cfg(num_classes=2, device=str(device))), []

    def keep(module, args, heatmap):
        heatmap.retain_grad()
        heatmaps.append(heatmap)

    model.proposal_generator.head.register_forward_hook(keep)
    losses = training_losses(model, ignoring_batch())
    losses["loss_center_heatmap"].backward()
    expected = torch.zeros(2, 2, 16, 24, dtype=torch.bool)
    expected[0, :, 2:12, 5:18] = True
    assert torch.equal(heatmaps[0].grad.cpu() == 0, expected)


def test_crowds_change_the_heatmap_loss_alone(device):
    losses = []
    for batch in (ignoring_batch(), ignoring_batch(), ignoring_batch()):
        if len(losses) == 1:
            batch[0]["ignore_region"].zero_()
        if len(losses) == 2:
            del batch[0]["ignore_region"]
        torch.manual_seed(0)
        losses.append(training_losses(build_model(small_cfg(device=str(device))), batch))
    ignoring, empty, plain = losses
    assert ignoring["loss_center_heatmap"] < plain["loss_center_heatmap"]
    for name in LOSSES:
        assert torch.equal(empty[name], plain[name])
        if name != "loss_center_heatmap":
            assert torch.equal(ignoring[name], plain[name])


def test_crowds_under_autocast(device):
    torch.manual_seed(0)
    model = build_model(small_cfg(device=str(device)))
    with torch.autocast(device.type, torch.bfloat16):
        losses = training_losses(model, ignoring_batch())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_other_methods_take_samples_with_crowds():
    """Mask R-CNN follows the instances alone."""
    cfg = get_cfg("configs/dsb2018/mask_rcnn_R_18_FPN_256.yaml")
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    batches = [disk_batch([(64, 96)], [3]) for _ in range(2)]
    batches[0][0]["ignore_region"] = torch.ones(64, 96, dtype=torch.bool)
    losses = []
    for batch in batches:
        torch.manual_seed(0)
        losses.append(training_losses(build_model(cfg), batch))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
