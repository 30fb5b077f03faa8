"""Data loaders of every method, with our mapper."""

import cv2
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from torch.utils.data import DataLoader

from .mapper import InstanceMapper
from .seeding import seeded
from .train_stream import build_train_stream, prepare_worker


def build_train_loader(cfg: CfgNode, *, seed: int = 0, start_iter: int = 0) -> DataLoader:
    """Endless batches of cfg.DATASETS.TRAIN, each a list of SOLVER.IMS_PER_BATCH samples, split over processes.

    Args:
        seed: of the run; with it, the batch of an iteration is always the same.
        start_iter: the iteration of the first batch.
    """
    # OpenCV's threads would compete with the network's, and a forked worker inherits their locks but not them.
    cv2.setNumThreads(0)
    paste_source = get_detection_dataset_dicts(cfg.DATASETS.TRAIN) if cfg.INPUT.COPY_PASTE_PROB > 0 else ()
    with seeded(seed):  # Detectron2's samplers draw their seed from the global generator.
        return build_train_stream(
            cfg,
            mapper=InstanceMapper(cfg, is_train=True, paste_source=paste_source),
            # Square crops all have one shape; other batches waste less padding when grouped.
            aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING and not cfg.INPUT.SQUARE_CROP.ENABLED,
            seed=seed,
            start_iter=start_iter,
        )


def build_test_loader(cfg: CfgNode, dataset_name: str) -> DataLoader:
    """Each image of ``dataset_name`` once, in order, one per batch."""
    loader = build_detection_test_loader(cfg, dataset_name, mapper=InstanceMapper(cfg, is_train=False))
    loader.worker_init_fn = prepare_worker
    return loader
