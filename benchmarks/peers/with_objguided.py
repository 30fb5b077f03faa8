"""The method of this package, for inference beside the peers; runs in the package's own environment."""

import re

import numpy as np
import torch

from objguided_d2 import Predictor

from .methods import Predict

# A path may hold an @ itself.
_SCALED = re.compile(r"(.+)@([\d.]+)")


def load(model: str, threads: int) -> Predict:
    """``MODEL@1`` has images at their own size in the network, ``MODEL`` at the size of the model's config."""
    torch.set_num_threads(threads)
    scaled = _SCALED.fullmatch(model)
    model, scale = (scaled[1], float(scaled[2])) if scaled else (model, None)
    predictor = Predictor.from_pretrained(model, device="cpu")

    def predict(image: np.ndarray) -> np.ndarray:
        return predictor(image, scale=scale).labels

    return predict
