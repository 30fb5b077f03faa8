"""The methods by name. Each is a module with ``load``, and with ``train`` if it is trained here."""

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .dataset import LabeledImage

METHODS = ("stardist", "cellpose", "instanseg", "objguided")
TRAINED_HERE = ("stardist", "cellpose", "instanseg")

# RGB (H, W, 3) uint8 -> labels (H, W).
Predict = Callable[[np.ndarray], np.ndarray]


def train(method: str, data: list[LabeledImage], minutes: float, threads: int, output: Path) -> None:
    """Train one of TRAINED_HERE; ``load`` takes the folder ``output``."""
    _module(method).train(data, minutes, threads, output)


def load(method: str, model: str, threads: int) -> Predict:
    """A trained model of one of METHODS.

    Args:
        model: folder that :func:`train` wrote, or what ``Predictor.from_pretrained`` takes.
    """
    return _module(method).load(model, threads)


def count_steps(seconds: float, seconds_per_step: float) -> int:
    """Training steps that fit, one at least.

    Raises:
        ValueError: if a step took no time, which other load on the machine can make of a calibration.
    """
    if seconds_per_step <= 0:
        raise ValueError(f"a training step took {seconds_per_step:.2f} s in the calibration; train on a quiet machine")
    return max(1, int(seconds / seconds_per_step))


def _module(method: str):
    # Each needs packages that the other environment lacks.
    return importlib.import_module(f".with_{method}", __package__)
