"""Evaluation of instance segmentation: Detectron2 evaluators over pure functions, one file per measure."""

import importlib
import pkgutil

from .base import EVALUATORS, InstanceEvaluator, LabelMapEvaluator, register_evaluator
from .build import build_evaluator
from .results import definition_of, format_results, write_metrics

__all__ = [
    "EVALUATORS",
    "InstanceEvaluator",
    "LabelMapEvaluator",
    "build_evaluator",
    "definition_of",
    "format_results",
    "register_evaluator",
    "write_metrics",
]


def import_measures() -> None:
    """Import every file of this package, so that the evaluators in them are registered."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


import_measures()
