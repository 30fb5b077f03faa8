"""The method of this package, for inference beside the peers; runs in the package's own environment."""

import numpy as np
import torch

from objguided_d2 import Predictor

from .methods import Predict


def load(model: str, threads: int) -> Predict:
    """``MODEL@1`` has images at their own size in the network, ``MODEL`` at the size of the model's config."""
    torch.set_num_threads(threads)
    model, _, scale = model.partition("@")
    predictor = Predictor.from_pretrained(model, device="cpu")

    def predict(image: np.ndarray) -> np.ndarray:
        return predictor(image, scale=float(scale) if scale else None).labels

    return predict
