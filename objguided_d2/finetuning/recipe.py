"""The config of a fine-tuning: the model's own, with what few images need."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode

from ..engine.schedule import shortened_warmup
from .dataset import HELD_OUT, TRAIN, Split

# Of the model's own SOLVER.BASE_LR; docs/finetune.md has what they did. A model that is good at the objects already
# is adapted in small steps, one that is not learns them.
LR_FACTOR, LR_FACTOR_FOR_NEW_OBJECTS = 0.1, 1.0
# AP under which objects are new to a model, for all that it may find them: of 19 AP the full rate makes 54 in 60 steps
# and a tenth of it 41; of 51 AP the full rate makes less.
_NEW_OBJECTS_AP = 30.0
# By default: some ten minutes on two cores of a laptop with the small model and its crops of 256 x 256.
STEPS = 400
EVALUATIONS = 10
# Evaluations in a row whose AP is under this part of the best, after which the training ends. Near it they are no
# reason to: the rate falls until the last step. 20 leaf images, 60 steps: ended at 42 for want of a better evaluation,
# test AP 40.1; in full 45.1.
PATIENCE, MUCH_WORSE = 4, 0.95
F1 = "F1@0.5"
METRICS = {"AP": "segm/AP", "AP50": "segm/AP50", F1: "matching/f150"}
# A training crop shows this factor more or less than a test image does.
_ZOOM = 1.25
_CROP_MULTIPLE = 32
# Of all crops of a step, on a CPU: many small steps adapt more than few large ones.
_PIXELS_PER_STEP = 4 * 256**2
_WARMUP = 20
# Steps that are lost at most where the computer goes down.
_CHECKPOINT_PERIOD = 50


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long a training lasts.

    Attributes:
        steps: at most.
        minutes: of training steps, 0 for no bound.
        evaluations: of the held-out images, spread evenly.
    """

    steps: int
    minutes: float
    evaluations: int

    @classmethod
    def plan(
        cls, steps: int | None, minutes: float | None, elapsed_seconds: float, evaluation_seconds: float
    ) -> Budget:
        """From what a user gives; a budget in minutes is for everything, with evaluations a fifth of it at most.

        Args:
            elapsed_seconds: used up already.
            evaluation_seconds: of one evaluation.
        """
        if minutes is None:
            steps = STEPS if steps is None else steps
            return cls(steps, 0.0, min(EVALUATIONS, steps))
        left = 60 * minutes - elapsed_seconds
        evaluations = EVALUATIONS
        if evaluation_seconds:
            evaluations = max(1, min(EVALUATIONS, int(0.2 * left / evaluation_seconds)))
        # At least one step, also where the preparation took all the time.
        training = max(left - evaluations * evaluation_seconds, 1.0)
        return cls(10**6 if steps is None else steps, training / 60, evaluations)


def are_new(before: dict[str, float] | None) -> bool:
    """Whether objects are of a kind that a model has to learn; METRICS ``before`` are None if it lacks their class."""
    return before is None or not before["AP"] >= _NEW_OBJECTS_AP


def base_config(
    model_cfg: CfgNode,
    *,
    num_classes: int,
    split: Split,
    scale: float,
    score_threshold: float,
    intensity: str,
    image_sides: Sequence[int],
    from_scratch: bool,
    seed: int,
    device: str,
    output_dir: str | os.PathLike,
    options: Sequence[object] = (),
) -> CfgNode:
    """All but what :func:`with_budget` adds.

    BatchNorm keeps the statistics that the model was trained with. All layers learn.

    Args:
        scale: pixels of the network per pixel of the images.
        intensity: see :class:`.dataset.LabeledImages`.
        image_sides: the longer side of each image.
        from_scratch: the weights are new: the model's own BatchNorm.
        output_dir: for checkpoints and evaluations.
        options: KEY, VALUE pairs over all of this.
    """
    cfg = model_cfg.clone()
    cfg.defrost()
    cfg.SEED, cfg.MODEL.DEVICE, cfg.VIS_PERIOD, cfg.OUTPUT_DIR = seed, device, 0, os.fspath(output_dir)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    # It helps a training from scratch; bundles come without its weights, and new ones would pull at good features.
    cfg.MODEL.ROI_MASK_HEAD.REFINE.ENABLED = False
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (TRAIN,), (HELD_OUT,) if split.held_out else ()
    cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = 0, False

    cfg.INPUT.INTENSITY = intensity
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.INPUT.TEST_SCALE = float(scale)
    crop = cfg.INPUT.SQUARE_CROP
    size = crop.OUTPUT_SIZE if crop.ENABLED else 512
    largest = scale * max(image_sides)
    # A crop larger than every image is black for the rest.
    size = min(size, _CROP_MULTIPLE * math.ceil(largest / _CROP_MULTIPLE))
    crop.ENABLED, crop.RELATIVE_TO, crop.OUTPUT_SIZE = True, "pixels", size
    crop.RANGE = [size / scale / _ZOOM, size / scale * _ZOOM]

    solver = cfg.SOLVER
    solver.LR_SCHEDULER_NAME, solver.RESCALE_INTERVAL = "WarmupCosineLR", False
    if torch.device(device).type == "cpu":
        solver.IMS_PER_BATCH = max(1, min(solver.IMS_PER_BATCH, round(_PIXELS_PER_STEP / size**2)))
    solver.AMP.ENABLED = solver.AMP.ENABLED and _has_precision(solver.AMP.PRECISION, device)
    if not from_scratch:
        solver.FREEZE_BN_AT = 0.0
    solver.CHECKPOINT_PERIOD = _CHECKPOINT_PERIOD

    limit = 2 * split.most_objects
    cfg.TEST.DETECTIONS_PER_IMAGE = max(cfg.TEST.DETECTIONS_PER_IMAGE, limit)
    cfg.MODEL.CENTER_HEAD.TOPK = max(cfg.MODEL.CENTER_HEAD.TOPK, limit)
    cfg.TEST.EVALUATORS, cfg.TEST.EVAL_PERIOD, cfg.TEST.BEST_METRIC = ["coco", "matching"], 0, METRICS["AP"]
    cfg.TEST.LABEL_MAP_SCORE_THRESH = float(score_threshold)
    cfg.TEST.EXPECTED_RESULTS = []
    cfg.merge_from_list(list(options))
    # Of steps of fewer images, each is less certain. A rate among the options comes with the budget.
    solver.BASE_LR = model_cfg.SOLVER.BASE_LR * math.sqrt(solver.IMS_PER_BATCH / model_cfg.SOLVER.IMS_PER_BATCH)
    return cfg


def with_budget(
    base: CfgNode,
    budget: Budget,
    weights: str | os.PathLike,
    *,
    new_objects: bool,
    options: Sequence[object] = (),
) -> CfgNode:
    """The config of the training, frozen.

    The rate is a fraction of the model's own, with a warm-up: weights that fit already are not to be thrown away by
    the first steps.

    Args:
        base: see :func:`base_config`.
        weights: the file to start from.
        new_objects: the model is not good at these objects, see :func:`are_new`, or its weights are new.
        options: KEY, VALUE pairs over all of this.
    """
    cfg = base.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = os.fspath(weights)
    solver = cfg.SOLVER
    solver.BASE_LR *= LR_FACTOR_FOR_NEW_OBJECTS if new_objects else LR_FACTOR
    solver.MAX_ITER, solver.MAX_MINUTES = budget.steps, float(budget.minutes)
    solver.WARMUP_ITERS = shortened_warmup(_WARMUP, budget.steps)
    cfg.merge_from_list(list(options))
    cfg.freeze()
    return cfg


def bundle_config(trained: CfgNode, model_cfg: CfgNode) -> CfgNode:
    """What the bundle holds: the trained model's, and the model's own where the fine-tuning was for itself alone."""
    cfg = trained.clone()
    cfg.defrost()
    # A further fine-tuning starts from the same rate.
    cfg.SOLVER, cfg.SEED = model_cfg.SOLVER.clone(), model_cfg.SEED
    for key in ("EVALUATORS", "EVAL_PERIOD", "BEST_METRIC", "LABEL_MAP_SCORE_THRESH", "EXPECTED_RESULTS"):
        cfg.TEST[key] = model_cfg.TEST[key]
    cfg.INPUT.INTENSITY = model_cfg.INPUT.INTENSITY
    cfg.freeze()
    return cfg


def _has_precision(precision: str, device: str) -> bool:
    return precision != "float16" or torch.device(device).type == "cuda"
