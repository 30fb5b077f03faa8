"""A small model that finds hundreds of objects without any training, for the tests of this folder."""

from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from tests.modeling.models import small_cfg


def busy_cfg(num_classes: int = 1) -> CfgNode:
    """Images keep their size in the network; masks are 12 pixels wide and overlap their neighbors."""
    cfg = small_cfg(num_classes)
    cfg.MODEL.WEIGHTS = ""
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.FORMAT = 0, "RGB"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [120.0, 120.0, 120.0], [60.0, 60.0, 60.0]
    cfg.MODEL.CENTER_HEAD.TOPK = cfg.TEST.DETECTIONS_PER_IMAGE = 5000
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.2
    cfg.TEST.LABEL_MAP_SCORE_THRESH = 0.3
    head = cfg.MODEL.ROI_MASK_HEAD
    head.GRID, head.PASTE_MODE, head.MASK_THRESH, head.MASK_NMS_THRESH = "centers", "bilinear", 0.5, 0.3
    return cfg


def busy_model(cfg: CfgNode, seed: int = 0) -> nn.Module:
    """Random weights, with layers that begin near zero made larger: scores and masks differ from place to place."""
    torch.manual_seed(seed)
    model = build_model(cfg).eval()
    head, seg_head = model.proposal_generator.head, model.roi_heads.mask_head.seg_head
    with torch.no_grad():
        # Norm statistics other than the initial ones, as in a trained model.
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.05)
                module.running_var.uniform_(0.8, 1.2)
        features = _typical_features(model)
        for branch, spread in ((head.heatmap, 2.0), (head.wh, 0.3), (head.offset, 0.3)):
            branch[2].weight.normal_(std=1.0)
            values = branch(features)
            branch[2].weight.mul_(spread / (values - values.mean((2, 3), keepdim=True)).std())
            branch[2].bias.sub_(branch(features).mean((0, 2, 3)))
        head.wh[2].bias.add_(3.0)
        seg_head.predictor.weight.normal_(std=1.0)
    return model


def _typical_features(model: nn.Module) -> torch.Tensor:
    image = torch.from_numpy(textured_image(128, 128).transpose(2, 0, 1).copy())
    inputs = model.preprocess_image([{"image": image}]).tensor
    return model.backbone(inputs)[model.proposal_generator.in_feature]


def textured_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 blobs of many sizes."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cell in (4, 16, 64):
        rows, columns = -(-height // cell), -(-width // cell)
        total += np.kron(rng.normal(size=(rows, columns, 3)), np.ones((cell, cell, 1)))[:height, :width]
    return np.clip(total * 40 + 120, 0, 255).astype(np.uint8)


def save_run(cfg: CfgNode, model: nn.Module, folder: Path) -> Path:
    """A run folder as a training leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    return folder
