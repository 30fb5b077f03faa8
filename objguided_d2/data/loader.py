"""Data loaders of every method: Detectron2's, with our mapper."""

import cv2
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from torch.utils.data import DataLoader

from .mapper import InstanceMapper


def build_train_loader(cfg: CfgNode) -> DataLoader:
    """Endless batches of cfg.DATASETS.TRAIN, each a list of SOLVER.IMS_PER_BATCH samples (per process: its share)."""
    # OpenCV's threads would compete with the network's, and a forked worker inherits their locks but not them.
    cv2.setNumThreads(0)
    return build_detection_train_loader(
        cfg,
        mapper=InstanceMapper(cfg, is_train=True),
        # Square crops all have one shape; other batches waste less padding when grouped.
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING and not cfg.INPUT.SQUARE_CROP.ENABLED,
    )


def build_test_loader(cfg: CfgNode, dataset_name: str) -> DataLoader:
    """Each image of ``dataset_name`` once, in order, one a batch."""
    return build_detection_test_loader(cfg, dataset_name, mapper=InstanceMapper(cfg, is_train=False))
