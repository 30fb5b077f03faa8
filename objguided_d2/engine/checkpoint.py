"""Checkpoints that are either complete or not there, and the best one of a run."""

import logging
import os
from glob import glob
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import hooks
from detectron2.evaluation.testing import flatten_results_dict
from torch import nn

from ..utils.atomic_write import atomic_write, write_text

logger = logging.getLogger(__name__)


class AtomicCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, except that a crash or a full disk never leaves a damaged file behind."""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<save_dir>/<name>.pth`` with the model, the checkpointables and ``kwargs``."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data.update((key, checkpointable.state_dict()) for key, checkpointable in self.checkpointables.items())
        data.update(kwargs)
        path = os.path.join(self.save_dir, f"{name}.pth")
        logger.info("Saving checkpoint to %s", path)
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            torch.save(data, file)
        self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the file that a resumed run starts from."""
        write_text(os.path.join(self.save_dir, "last_checkpoint"), last_filename_basename)


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's hook; here the last iteration may be known only when it comes (SOLVER.MAX_MINUTES).

    A resumed run counts the files from before the interruption among those to keep.
    """

    def before_train(self) -> None:
        super().before_train()
        if self.trainer.start_iter > 0:
            self.recent_checkpoints = sorted(glob(os.path.join(self.checkpointer.save_dir, "model_[0-9]*.pth")))

    def after_step(self) -> None:
        self.max_iter = self.trainer.max_iter
        super().after_step()


class BestModel:
    """Keeps the weights with the highest value of one metric in ``<output_dir>/model_best.pth``.

    The file itself records the value, so a resumed run goes on from the best one whichever checkpoint it starts from.
    Detectron2's BestCheckpointer forgets the value, and tags its file as the last checkpoint, which a resumed run would
    then go back to.

    Args:
        model: the module without any DistributedDataParallel around it.
        metric: name in the flattened results, e.g. ``segm/AP``.
    """

    FILE_NAME = "model_best.pth"

    def __init__(self, model: nn.Module, output_dir: str, metric: str) -> None:
        self._model, self._metric = model, metric
        self._path = os.path.join(output_dir, self.FILE_NAME)
        self.best: float | None = None

    def restore(self) -> None:
        """Take over the best value of the run that is being resumed."""
        if os.path.isfile(self._path):
            best = torch.load(self._path, map_location="cpu", mmap=True)
            if best.get("metric") == self._metric:
                self.best = best["value"]

    def offer(self, results: dict, iteration: int) -> None:
        """Save the model if ``results``, a nested dict of metrics, beat all before. NaN never does."""
        metrics = flatten_results_dict(results)
        if self._metric not in metrics:
            logger.error(
                "No model_best.pth: TEST.BEST_METRIC %r is not among the results; set it to one of: %s",
                self._metric,
                ", ".join(metrics),
            )
            return
        value = float(metrics[self._metric])
        if value > (self.best if self.best is not None else float("-inf")):
            self.best = value
            origin = {"iteration": iteration, "metric": self._metric, "value": value}
            with atomic_write(self._path) as temporary, open(temporary, "wb") as file:
                torch.save({"model": self._model.state_dict(), **origin}, file)
            logger.info("Best %s so far: %.4f, saved to %s", self._metric, value, self._path)
