"""The evaluators that TEST.EVALUATORS names."""

import os

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator

from .boundary_evaluator import BoundaryEvaluator
from .coco_ap import LIBRARIES
from .coco_evaluator import COCOInstanceEvaluator
from .ctc_evaluator import CellTrackingEvaluator
from .ground_truth import load_ground_truth, warn_of_images_above_limit
from .instance_evaluators import InstanceEvaluators
from .leaf_evaluator import LeafEvaluator
from .matching_evaluator import MatchingEvaluator
from .voc2010_evaluator import VOC2010Evaluator

EVALUATORS = {
    "coco": lambda cfg, name, folder, ground_truth: COCOInstanceEvaluator(
        name, folder, detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE, library=cfg.TEST.COCO_EVAL
    ),
    "voc2010": lambda cfg, name, folder, ground_truth: VOC2010Evaluator(name, ground_truth),
    "matching": lambda cfg, name, folder, ground_truth: MatchingEvaluator(
        name, ground_truth, score_threshold=cfg.TEST.LABEL_MAP_SCORE_THRESH
    ),
    "boundary": lambda cfg, name, folder, ground_truth: BoundaryEvaluator(
        name, ground_truth, score_threshold=cfg.TEST.LABEL_MAP_SCORE_THRESH, distance=cfg.TEST.BOUNDARY_DISTANCE
    ),
    "leaf": lambda cfg, name, folder, ground_truth: LeafEvaluator(
        name, ground_truth, score_threshold=cfg.TEST.LABEL_MAP_SCORE_THRESH
    ),
    "ctc": lambda cfg, name, folder, ground_truth: CellTrackingEvaluator(
        name, ground_truth, score_threshold=cfg.TEST.LABEL_MAP_SCORE_THRESH, folder=os.path.join(folder, "ctc")
    ),
}


def build_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str | None = None) -> DatasetEvaluator:
    """Build what ``TEST.EVALUATORS`` names, all on the same predictions.

    Args:
        cfg: reads TEST.EVALUATORS, TEST.COCO_EVAL, TEST.DETECTIONS_PER_IMAGE, TEST.LABEL_MAP_SCORE_THRESH,
            TEST.BOUNDARY_DISTANCE, OUTPUT_DIR.
        dataset_name: a registered data set.
        output_folder: for files of the evaluators; by default ``OUTPUT_DIR/inference/<dataset_name>``.

    Returns:
        An evaluator whose ``evaluate()`` gives task -> metric -> value: tasks bbox and segm for "coco", voc_dec and
        voc_seg for "voc2010", and one task of the same name for each of the others.

    Raises:
        ValueError: if TEST.EVALUATORS is empty or holds an unknown name, TEST.COCO_EVAL is unknown, or
            TEST.DETECTIONS_PER_IMAGE or TEST.BOUNDARY_DISTANCE is under 1.
    """
    names = list(cfg.TEST.EVALUATORS)
    unknown = [name for name in names if name not in EVALUATORS]
    if unknown or not names:
        raise ValueError(f"TEST.EVALUATORS is {names}; name one or more of {sorted(EVALUATORS)}")
    if cfg.TEST.COCO_EVAL not in LIBRARIES:
        raise ValueError(f"TEST.COCO_EVAL is '{cfg.TEST.COCO_EVAL}'; choose one of {sorted(LIBRARIES)}")
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    if limit < 1:
        raise ValueError(f"TEST.DETECTIONS_PER_IMAGE is {limit}; it must be at least 1")
    if cfg.TEST.BOUNDARY_DISTANCE < 1:
        raise ValueError(f"TEST.BOUNDARY_DISTANCE is {cfg.TEST.BOUNDARY_DISTANCE}; it must be at least 1 pixel")
    folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    ground_truth = load_ground_truth(dataset_name, folder)
    warn_of_images_above_limit(ground_truth, dataset_name, limit)
    evaluators = [EVALUATORS[name](cfg, dataset_name, folder, ground_truth) for name in names]
    return InstanceEvaluators(evaluators, ground_truth)
