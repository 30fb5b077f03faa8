"""StarDist 2D (Schmidt et al., MICCAI 2018), by the recipe of its own example notebooks.

Grid 2, 32 rays, patches of 256, images normalized by percentiles 1 and 99.8; flips, right-angle turns, intensity and
noise as augmentation; both thresholds are optimized on the held-out images after the training.
"""

import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from csbdeep.utils import normalize
from stardist import fill_label_holes
from stardist.models import Config2D, StarDist2D

from .dataset import LabeledImage, hold_out
from .methods import Predict

PATCH = 256
_NAME = "stardist"
_AXES = (0, 1)  # Percentiles over the pixels, channels apart.


class StopAfter(keras.callbacks.Callback):
    """Ends the training after so many seconds of it."""

    def __init__(self, seconds: float):
        super().__init__()
        self._seconds, self._end = seconds, np.inf

    def on_train_begin(self, logs=None) -> None:
        self._end = time.monotonic() + self._seconds

    def on_train_batch_end(self, batch, logs=None) -> None:
        if time.monotonic() >= self._end:
            self.model.stop_training = True


def train(data: list[LabeledImage], minutes: float, threads: int, output: Path) -> None:
    """Train for so many minutes; images and labels are prepared before."""
    _set_threads(threads)
    training, validation = hold_out(data)
    images, labels = _prepare(training)
    held_images, held_labels = _prepare(validation)
    side = min(PATCH, min(min(image.shape[:2]) for image in [*images, *held_images]) // 16 * 16)
    # As many epochs as time allows; StopAfter ends the last one.
    config = Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=3,
        use_gpu=False,
        train_patch_size=(side, side),
        train_epochs=10**6,
        train_steps_per_epoch=100,
        train_tensorboard=False,
    )
    model = StarDist2D(config, name=_NAME, basedir=str(output))
    model.prepare_for_training()
    model.callbacks.append(StopAfter(60 * minutes))
    model.train(images, labels, validation_data=(held_images, held_labels), augmenter=_augment)
    model.optimize_thresholds(held_images, held_labels)


def load(model: str, threads: int) -> Predict:
    _set_threads(threads)
    network = StarDist2D(None, name=_NAME, basedir=model)
    return lambda image: network.predict_instances(normalize(image, 1, 99.8, axis=_AXES))[0]


def _set_threads(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _prepare(data: list[LabeledImage]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    images = [normalize(one.image, 1, 99.8, axis=_AXES) for one in data]
    return images, [fill_label_holes(one.labels) for one in data]


def _augment(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    turns = np.random.randint(4)
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if np.random.rand() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    return image + 0.02 * np.random.uniform() * np.random.normal(size=image.shape), labels
