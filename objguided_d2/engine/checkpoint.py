"""Checkpoints that are either complete or not there, and the best one of a run."""

import logging
import os
import re
import shutil
from glob import escape as glob_escape
from glob import glob
from typing import Any

import torch
from detectron2.engine import hooks
from detectron2.evaluation.testing import flatten_results_dict
from torch import nn

from ..utils.atomic_write import atomic_write, write_text
from .errors import DivergenceError, WeightsError
from .weights import SafeCheckpointer, read_checkpoint

logger = logging.getLogger(__name__)

# In OUTPUT_DIR: what an earlier run has left that a new one replaces.
REPLACED = "replaced"


class AtomicCheckpointer(SafeCheckpointer):
    """Detectron2's checkpointer, except that a crash or a full disk never leaves a damaged file behind."""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<save_dir>/<name>.pth`` with the model, the checkpointables and ``kwargs``.

        Raises:
            DivergenceError: if a weight is not finite; nothing is written, the last checkpoint stays the last one.
            OSError: on a full disk; likewise.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        weights = self.model.state_dict()
        path = os.path.join(self.save_dir, f"{name}.pth")
        broken = next((key for key, value in weights.items() if not _is_finite(value)), None)
        if broken is not None:
            raise DivergenceError(
                f"{path} is not written: {broken} is no longer finite. Go on from the last checkpoint with --resume "
                "and SOLVER.CLIP_GRADIENTS, or start anew with a lower SOLVER.BASE_LR"
            )
        data = {"model": weights}
        data.update((key, checkpointable.state_dict()) for key, checkpointable in self.checkpointables.items())
        data.update(kwargs)
        logger.info("Saving checkpoint to %s", path)
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            torch.save(data, file)
        self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the file that a resumed run starts from."""
        write_text(os.path.join(self.save_dir, "last_checkpoint"), last_filename_basename)

    def newest_whole_checkpoint(self) -> str | None:
        """The file to resume from: the last one, or if that is damaged the newest that is not; None without any.

        Raises:
            WeightsError: if there are checkpoints and all are damaged.
        """
        candidates = self._resumable_files()
        problems = []
        for path in candidates:
            try:
                content = read_checkpoint(path)
            except WeightsError as error:
                problems.append(str(error))
                continue
            if "trainer" not in content or "iteration" not in content:
                problems.append(f"{path} holds weights alone")
                continue
            for problem in problems:
                logger.warning("--resume: %s", problem)
            if problems:
                logger.warning("--resume: going on from %s, the newest whole checkpoint", path)
            return path
        if problems:
            raise WeightsError(
                f"--resume: no whole checkpoint in {self.save_dir} ({'; '.join(problems)}); remove them to start anew"
            )
        return None

    def has_earlier_run(self) -> bool:
        """Whether there is a file that a resumed run could start from."""
        return bool(self._resumable_files())

    def set_earlier_run_aside(self) -> None:
        """Move checkpoints, metrics and evaluations to ``<save_dir>/replaced``, in place of what is there.

        A new run that is killed before its first checkpoint would be resumed from them.
        """
        if not self.save_to_disk:
            return
        folder = os.path.join(self.save_dir, REPLACED)
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        here = glob_escape(self.save_dir)
        for path in [*glob(os.path.join(here, "last_checkpoint")), *glob(os.path.join(here, "model_*.pth"))]:
            os.replace(path, os.path.join(folder, os.path.basename(path)))
        for path in glob(os.path.join(here, "inference")):
            os.replace(path, os.path.join(folder, "inference"))
        for path in glob(os.path.join(here, "metrics.json")):
            # The new run's writer has it open already.
            shutil.copy2(path, folder)
            os.truncate(path, 0)

    def _resumable_files(self) -> list[str]:
        """The file that was tagged last, then the others by their iteration, newest first."""
        files = glob(os.path.join(glob_escape(self.save_dir), "model_*.pth"))
        numbered = {path: re.fullmatch(r"model_(\d+)\.pth", os.path.basename(path)) for path in files}
        by_iteration = sorted((int(match[1]), path) for path, match in numbered.items() if match)
        final = [path for path in files if os.path.basename(path) == "model_final.pth"]
        ordered = final + [path for _, path in reversed(by_iteration)]
        tagged = self.get_checkpoint_file() if self.has_checkpoint() else ""
        return ([tagged] if os.path.isfile(tagged) else []) + [path for path in ordered if path != tagged]


def _is_finite(value: torch.Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's hook; here the last iteration may be known only when it comes (SOLVER.MAX_MINUTES).

    A resumed run counts the files from before the interruption among those to keep.
    """

    def before_train(self) -> None:
        super().before_train()
        if self.trainer.start_iter > 0:
            self.recent_checkpoints = sorted(
                glob(os.path.join(glob_escape(self.checkpointer.save_dir), "model_[0-9]*.pth"))
            )

    def after_step(self) -> None:
        self.max_iter = self.trainer.max_iter
        super().after_step()


class BestModel:
    """Keeps the weights with the highest value of one metric in ``<output_dir>/model_best.pth``.

    Of equal ones the later, which have learned more: while AP is 0 nothing else tells them apart.

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
        self._best_iteration: int | None = 0

    def restore(self) -> None:
        """Take over the best value of the run that is being resumed; a damaged file is replaced by the next best."""
        if os.path.isfile(self._path):
            try:
                best = read_checkpoint(self._path, mmap=True)
            except WeightsError as error:
                logger.warning("The best model is lost: %s", error)
                return
            if best.get("metric") == self._metric:
                self.best, self._best_iteration = best["value"], best["iteration"]

    def offer(self, results: dict, iteration: int | None) -> None:
        """Save the model if ``results``, a nested dict of metrics, are the best so far. NaN never is.

        Args:
            iteration: the last one; None before any step: an equal value is no reason to give up the model as it was.
        """
        metrics = flatten_results_dict(results)
        if not metrics:
            return
        if self._metric not in metrics:
            logger.error(
                "No model_best.pth: TEST.BEST_METRIC %r is not among the results; set it to one of: %s",
                self._metric,
                ", ".join(metrics),
            )
            return
        value = float(metrics[self._metric])
        former = float("-inf") if self.best is None else self.best
        if value > former or (value == former and self._best_iteration is not None):
            self.best, self._best_iteration = value, iteration
            origin = {"iteration": iteration, "metric": self._metric, "value": value}
            with atomic_write(self._path) as temporary, open(temporary, "wb") as file:
                torch.save({"model": self._model.state_dict(), **origin}, file)
            logger.info("Best %s so far: %.4f, saved to %s", self._metric, value, self._path)
