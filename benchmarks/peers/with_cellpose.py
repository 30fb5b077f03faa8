"""Cellpose 3 (Stringer et al., Nature Methods 2021; 2025), its network from scratch by its own training function.

Gray images, the function's own optimizer, rate and augmentation. An epoch of its schedule is one batch here, so that
warm-up and decay fit into minutes. The size model, which says how large the objects of an image are, is trained on its
styles afterwards.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from cellpose import dynamics
from cellpose.models import CellposeModel, SizeModel
from cellpose.train import train_seg, train_size

from .dataset import LabeledImage
from .methods import Predict, count_steps

BATCH = 8
_NAME = "cellpose"
_GRAY = [0, 0]
_CALIBRATION_STEPS = 5


def train(data: list[LabeledImage], minutes: float, threads: int, output: Path) -> None:
    """Train for so many minutes: a few steps of a first network tell how many these are.

    Flows of the labels are computed before, the size model is trained after the minutes.
    """
    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    images = [to_gray(one.image) for one in data]
    flows = dynamics.labels_to_flows([one.labels for one in data], device=torch.device("cpu"))

    def run(steps: int):
        network = CellposeModel(gpu=False, pretrained_model=False).net
        return network, train_seg(
            network,
            train_data=images,
            train_labels=flows,
            channels=_GRAY,
            batch_size=BATCH,
            nimg_per_epoch=BATCH,
            n_epochs=steps,
            min_train_masks=1,
            save_path=output,
            model_name=_NAME,
        )[0]

    run(1)  # The first run of a process is slower.
    # What both runs do besides their steps cancels out.
    one_step, several_steps = (_seconds(partial(run, steps)) for steps in (1, 1 + _CALIBRATION_STEPS))
    network, file = run(count_steps(60 * minutes, (several_steps - one_step) / _CALIBRATION_STEPS))
    train_size(
        network,
        file,
        train_data=images,
        train_labels=flows,
        channels=_GRAY,
        min_train_masks=1,
        batch_size=BATCH,
        n_epochs=1,
    )


def _seconds(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


def to_gray(image: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) -> (H, W) float32, the mean of the channels."""
    return image.mean(2, dtype=np.float32)


def load(model: str, threads: int) -> Predict:
    torch.set_num_threads(threads)
    file = str(Path(model) / "models" / _NAME)
    network = CellposeModel(gpu=False, pretrained_model=file)
    sizes = SizeModel(network, pretrained_size=f"{file}_size.npy")

    def predict(image: np.ndarray) -> np.ndarray:
        gray = to_gray(image)
        diameter, _ = sizes.eval(gray, channels=_GRAY)
        return network.eval(gray, channels=_GRAY, diameter=diameter)[0]

    return predict
