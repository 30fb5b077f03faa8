"""The evaluators that TEST.EVALUATORS names."""

import os

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator

from .base import EVALUATORS
from .ground_truth import load_ground_truth, warn_of_images_above_limit
from .instance_evaluators import InstanceEvaluators


def build_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str | None = None) -> DatasetEvaluator:
    """Build what ``TEST.EVALUATORS`` names, all on the same predictions.

    Args:
        cfg: reads TEST.EVALUATORS, TEST.DETECTIONS_PER_IMAGE, OUTPUT_DIR and what the ``from_config`` of each evaluator
            reads.
        dataset_name: a registered dataset.
        output_folder: for files of the evaluators; by default ``OUTPUT_DIR/inference/<dataset_name>``.

    Returns:
        An evaluator whose ``evaluate()`` gives task -> metric -> value: tasks bbox and segm for "coco", voc_dec and
        voc_seg for "voc2010", released_dec and released_seg for "released", and one task of the same name for each of
        the others.

    Raises:
        ValueError: if TEST.EVALUATORS is empty or holds an unknown name, or a key that an evaluator reads has no valid
            value.
        KeyError: if no dataset has this name.
    """
    names = list(cfg.TEST.EVALUATORS)
    unknown = [name for name in names if name not in EVALUATORS]
    if unknown or not names:
        raise ValueError(f"TEST.EVALUATORS is {names}; name one or more of {sorted(EVALUATORS)}")
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    if limit < 1:
        raise ValueError(f"TEST.DETECTIONS_PER_IMAGE is {limit}; it must be at least 1")
    # Before the dataset is read: an invalid key is told at once.
    options = {name: EVALUATORS[name].from_config(cfg) for name in names}
    folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    ground_truth = load_ground_truth(dataset_name, folder)
    warn_of_images_above_limit(ground_truth, dataset_name, limit)
    evaluators = [
        EVALUATORS[name](dataset_name, ground_truth, output_folder=folder, **keywords)
        for name, keywords in options.items()
    ]
    return InstanceEvaluators(evaluators, ground_truth)
