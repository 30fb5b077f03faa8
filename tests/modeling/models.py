"""Small models and batches for the tests of this folder."""

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from objguided_d2 import get_cfg

LOSSES = {"loss_center_heatmap", "loss_wh", "loss_offset", "loss_mask", "loss_refine"}
CHANNELS = {"c1": 4, "c2": 4, "c3": 8, "c4": 12, "c5": 16}


def small_cfg(num_classes: int = 1, device: str = "cpu") -> CfgNode:
    """The method with narrow layers, in the paper's settings otherwise."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = device
    cfg.MODEL.META_ARCHITECTURE = "ObjectGuidedRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_unet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "CenterKeypointProposals"
    cfg.MODEL.ROI_HEADS.NAME = "ObjectGuidedROIHeads"
    cfg.MODEL.ROI_MASK_HEAD.NAME = "ObjectGuidedMaskHead"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.UNET.C1_CHANNELS = 8
    cfg.MODEL.UNET.DECODER_CHANNELS = [24, 24, 24]
    cfg.MODEL.UNET.LATERAL = True
    cfg.MODEL.CENTER_HEAD.CONV_DIM = 24
    cfg.MODEL.CENTER_HEAD.WH_KERNEL = 3
    cfg.MODEL.ROI_MASK_HEAD.LADDER_CHANNELS = [16, 16, 16, 16]
    cfg.MODEL.ROI_MASK_HEAD.SEG_HEAD_DIM = 16
    return cfg


def narrow_cfg(num_classes: int = 1) -> CfgNode:
    """As :func:`small_cfg` with layers of a few channels, for images of hundreds of pixels."""
    cfg = small_cfg(num_classes)
    cfg.MODEL.RESNETS.DEPTH = 50  # Those of less depth are 64 channels wide.
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.UNET.C1_CHANNELS = 4
    cfg.MODEL.UNET.DECODER_CHANNELS = [8, 8, 8]
    cfg.MODEL.CENTER_HEAD.CONV_DIM = 8
    cfg.MODEL.ROI_MASK_HEAD.LADDER_CHANNELS = [8, 8, 8, 8]
    cfg.MODEL.ROI_MASK_HEAD.SEG_HEAD_DIM = 8
    cfg.MODEL.ROI_MASK_HEAD.MAX_ATLAS_PIXELS = 200_000
    return cfg


def disk_batch(sizes: list[tuple[int, int]], counts: list[int], num_classes: int = 1, seed: int = 0) -> list[dict]:
    """Images of bright ellipses with exact masks: one (height, width) and one number of objects per image."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for (height, width), count in zip(sizes, counts):
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        center = torch.rand(count, 2, generator=generator) * torch.tensor([width - 20, height - 20]) + 10
        radius = torch.rand(count, 2, generator=generator) * 5 + 4
        distance = ((x - center[:, 0, None, None]) / radius[:, 0, None, None]) ** 2
        distance = distance + ((y - center[:, 1, None, None]) / radius[:, 1, None, None]) ** 2
        masks = BitMasks(distance < 1)
        image = masks.tensor.any(0).float() * 150 + torch.rand(height, width, generator=generator) * 60
        instances = Instances((height, width))
        instances.gt_masks = masks
        instances.gt_boxes = masks.get_bounding_boxes() if count else Boxes(torch.zeros(0, 4))
        instances.gt_classes = torch.randint(0, num_classes, (count,), generator=generator)
        batch.append(
            {"image": image.expand(3, -1, -1).to(torch.uint8), "instances": instances, "height": height, "width": width}
        )
    return batch


def ignoring_batch() -> list[dict]:
    """Two sizes, so that one image is padded, with a region on the first alone."""
    batch = disk_batch([(50, 75), (64, 96)], [0, 3])
    batch[0]["ignore_region"] = torch.zeros(50, 75, dtype=torch.bool)
    # The cells of rows 2 - 11 and of columns 5 - 17 at stride 4; those of row 12 and column 18 reach beyond the image.
    batch[0]["ignore_region"][8:, 18:] = True
    return batch


def training_losses(model, batch) -> dict[str, torch.Tensor]:
    with EventStorage():
        return model.train()(batch)


def predicting_model(cfg) -> torch.nn.Module:
    """An untrained model whose boxes have a size and whose masks are not empty."""
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_MASK_HEAD.MASK_THRESH = 0.3
    model = build_model(cfg)
    torch.nn.init.constant_(model.proposal_generator.head.wh[-1].bias, 4.0)
    return model.eval()


def peaky_model(cfg=None, seed: int = 0) -> torch.nn.Module:
    """An untrained model that detects many things of several sizes."""
    torch.manual_seed(seed)
    cfg = cfg or small_cfg()
    cfg.MODEL.ROI_MASK_HEAD.MASK_NMS_THRESH = 1.0
    model = predicting_model(cfg)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # The statistics of one batch.
    training_losses(model, disk_batch([(64, 64)] * 4, [4] * 4))
    head = model.proposal_generator.head
    for branch, spread in ((head.heatmap, 1.0), (head.wh, 1.0), (head.offset, 0.1)):
        torch.nn.init.normal_(branch[-1].weight, std=0.05 * spread)
    torch.nn.init.normal_(model.roi_heads.mask_head.seg_head.predictor.weight, std=0.1)
    return model.eval()
