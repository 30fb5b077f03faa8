"""The method of this package, for inference beside the peers; runs in the package's own environment."""

import numpy as np
import torch

from objguided_d2 import Predictor

from .methods import Predict


def load(model: str, threads: int) -> Predict:
    torch.set_num_threads(threads)
    predictor = Predictor.from_pretrained(model, device="cpu")

    def predict(image: np.ndarray) -> np.ndarray:
        return predictor(image).labels

    return predict
