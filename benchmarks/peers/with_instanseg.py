"""InstanSeg (Goldsborough et al., 2024), its network from scratch by its own training function.

Images at their own size, normalized by its percentiles; crops of 256, flips and turns; its losses, the easy ones first.
The weights with its best F1 on the held-out images are kept.
"""

import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from instanseg import InstanSeg
from instanseg.scripts.train import instanseg_training
from instanseg.utils import AI_utils
from instanseg.utils.loss.instanseg_loss import InstanSeg_Torchscript
from instanseg.utils.model_loader import load_model

from .dataset import LabeledImage, hold_out
from .methods import Predict

# By default 500 epochs of 1,000 crops, the first 10 with the easy losses: days here. As many epochs as time allows.
# With the easy losses in 2 of them alone, nothing was found after 40 minutes of one core.
CROPS_PER_EPOCH = 60
_NAME = "instanseg"
# As the training's own validation has it, but for windows of 64 pixels: of its 128 an image took 22 GB. The defaults of
# inference are for the published models: windows of 32, at half a micrometer per pixel, and a seed threshold that a
# network from scratch hardly reaches.
_POSTPROCESSING = {
    "mask_threshold": 0.53,
    "peak_distance": 4,
    "seed_threshold": 0.5,
    "overlap_threshold": 0.5,
    "mean_threshold": -10000.0,
    "window_size": 64,
    "cleanup_fragments": False,
}


class _Ended(Exception):
    """The minutes are over."""


def train(data: list[LabeledImage], minutes: float, threads: int, output: Path) -> None:
    """Train for so many minutes, of the epochs' steps; an epoch that has begun ends. Validation comes on top."""
    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    training, validation = hold_out(data)
    left = 60 * minutes
    train_epoch = AI_utils.train_epoch

    def bounded(*args, **kwargs):
        nonlocal left
        if left <= 0:
            raise _Ended
        started = time.monotonic()
        result = train_epoch(*args, **kwargs)
        left -= time.monotonic() - started
        return result

    with mock.patch.object(AI_utils, "train_epoch", bounded), mock.patch.object(sys, "argv", [_NAME]):
        try:
            instanseg_training(
                {"Train": [_item(one) for one in training], "Validation": [_item(one) for one in validation]},
                source_dataset=f"[{_NAME}]",
                output_path=str(output),
                experiment_str=_NAME,
                num_epochs=10**6,
                length_of_epoch=CROPS_PER_EPOCH,
                num_workers=1,
                device="cpu",
                on_cluster=True,
            )
        except _Ended:
            pass


def load(model: str, threads: int) -> Predict:
    torch.set_num_threads(threads)
    network, config = load_model(_NAME, path=model)
    whole = InstanSeg_Torchscript(
        network.eval(), params=_POSTPROCESSING, n_sigma=config["n_sigma"], backbone_dim_in=config["dim_in"]
    )
    program = InstanSeg(torch.jit.script(whole), device="cpu", verbosity=0)

    def predict(image: np.ndarray) -> np.ndarray:
        labels = program.eval_small_image(image.transpose(2, 0, 1), return_image_tensor=False)
        return labels[0, 0].numpy().astype(np.int32)

    return predict


def _item(one: LabeledImage) -> dict:
    # Both kinds of images get the same of its minimal augmentation; without a pixel size asked for, this one is unused.
    return {
        "image": one.image,
        "nucleus_masks": one.labels,
        "parent_dataset": _NAME,
        "image_modality": "Fluorescence",
        "pixel_size": 0.5,
    }
