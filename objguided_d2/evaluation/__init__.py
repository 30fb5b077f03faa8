"""Evaluation of instance segmentation: Detectron2 evaluators over pure functions."""

from .build import build_evaluator
from .coco_evaluator import COCOInstanceEvaluator
from .definitions import definition_of, format_results
from .metrics_file import write_metrics
from .voc2010_evaluator import VOC2010Evaluator

__all__ = [
    "COCOInstanceEvaluator",
    "VOC2010Evaluator",
    "build_evaluator",
    "definition_of",
    "format_results",
    "write_metrics",
]
