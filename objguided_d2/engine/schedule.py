"""Training by the clock: SOLVER.MAX_MINUTES and a learning rate that follows the elapsed fraction of it."""

import datetime
import logging
import time
from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.solver import LRMultiplier
from detectron2.solver import build_lr_scheduler as build_iteration_scheduler
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventStorage

from .errors import ConfigError

logger = logging.getLogger(__name__)


class TrainingClock(HookBase):
    """Counts the seconds spent in training steps, not in evaluation or checkpoints, and ends the run by them.

    Its count is part of the checkpoint, so a resumed run has the rest of its minutes. All processes follow the clock of
    rank 0. Must be the first hook: the other hooks' time is not to be counted, and they look at ``trainer.max_iter``,
    which this one sets when the time is up.

    Args:
        max_minutes: time budget; 0 only counts.
    """

    def __init__(self, max_minutes: float = 0.0) -> None:
        self.max_minutes = max_minutes
        self.seconds = 0.0
        self._step_start = 0.0

    @property
    def fraction(self) -> float:
        """Fraction of the budget that is used up, 0 to 1; 0 where there is none."""
        return min(self.seconds / (60 * self.max_minutes), 1.0) if self.max_minutes > 0 else 0.0

    def before_train(self) -> None:
        if self.fraction >= 1:
            self.trainer.max_iter = self.trainer.start_iter

    def before_step(self) -> None:
        self._step_start = time.perf_counter()

    def after_step(self) -> None:
        self.seconds += time.perf_counter() - self._step_start
        if self.max_minutes > 0:
            self.seconds = comm.all_gather(self.seconds)[0]
            if self.fraction >= 1:
                self.trainer.max_iter = self.trainer.iter + 1
        self.trainer.storage.put_scalar("elapsed_minutes", self.seconds / 60, smoothing_hint=False)

    def state_dict(self) -> dict:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict) -> None:
        self.seconds = state["seconds"]


class ClockedLR(LRMultiplier):
    """Detectron2's schedule at the larger of the fractions of the time and of MAX_ITER; warm-up follows iterations.

    Args:
        schedule: Detectron2's scheduler for the same optimizer, without warm-up.
        fraction: tells the elapsed fraction of the time budget, 0 to 1.
        warmup_iters, warmup_factor, warmup_method: as SOLVER.WARMUP_*; the factor multiplies the schedule.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: LRMultiplier,
        fraction: Callable[[], float],
        *,
        warmup_iters: int,
        warmup_factor: float,
        warmup_method: str,
    ) -> None:
        self._fraction = fraction
        self._warmup = warmup_iters, warmup_factor, warmup_method
        super().__init__(optimizer, schedule._multiplier, schedule._max_iter)

    def get_lr(self) -> list[float]:
        progress = min(max(self._fraction(), self.last_epoch / self._max_iter), 1.0)
        multiplier = self._multiplier(progress) * self._warmup_multiplier()
        return [base_lr * multiplier for base_lr in self.base_lrs]

    def _warmup_multiplier(self) -> float:
        iters, factor, method = self._warmup
        if self.last_epoch >= iters:
            return 1.0
        return factor if method == "constant" else factor + (1 - factor) * self.last_epoch / iters


class ClockedPrinter(CommonMetricPrinter):
    """Detectron2's progress line with the rest of the time budget in place of an estimate from MAX_ITER."""

    def __init__(self, clock: TrainingClock) -> None:
        super().__init__()
        self._clock = clock

    def write(self) -> None:
        self._max_iter = self._clock.trainer.max_iter  # After the last iteration, nothing is printed a second time.
        super().write()

    def _get_eta(self, storage: EventStorage) -> str:
        return str(datetime.timedelta(seconds=int((1 - self._clock.fraction) * 60 * self._clock.max_minutes)))


def shortened_warmup(warmup_iters: int, steps: int) -> int:
    """Steps of warm-up, a tenth of all at most: a training that ended in it would have learned nothing.

    Args:
        warmup_iters: of a long training.
        steps: of the training.
    """
    return min(warmup_iters, steps // 10)


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer, clock: TrainingClock) -> LRMultiplier:
    """Detectron2's scheduler, or its clocked form where SOLVER.MAX_MINUTES is set.

    A warning says when all iterations are warm-up: Detectron2's schedule has decayed to nothing before it ends.

    Raises:
        ConfigError: for a schedule that Detectron2 does not have, and one without a step.
    """
    if cfg.SOLVER.MAX_ITER < 1:
        raise ConfigError(f"SOLVER.MAX_ITER {cfg.SOLVER.MAX_ITER} trains nothing; give 1 or more")
    if cfg.SOLVER.WARMUP_ITERS >= cfg.SOLVER.MAX_ITER > 1:
        logger.warning(
            "SOLVER.WARMUP_ITERS %d is not less than SOLVER.MAX_ITER %d: little is learned; a tenth of it is usual",
            cfg.SOLVER.WARMUP_ITERS,
            cfg.SOLVER.MAX_ITER,
        )
    if clock.max_minutes <= 0:
        return _iteration_scheduler(cfg, optimizer)
    plain = cfg.clone()
    plain.defrost()
    plain.SOLVER.WARMUP_ITERS = 0
    return ClockedLR(
        optimizer,
        _iteration_scheduler(plain, optimizer),
        lambda: clock.fraction,
        warmup_iters=cfg.SOLVER.WARMUP_ITERS,
        warmup_factor=cfg.SOLVER.WARMUP_FACTOR,
        warmup_method=cfg.SOLVER.WARMUP_METHOD,
    )


def _iteration_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:
    try:
        return build_iteration_scheduler(cfg, optimizer)
    except ValueError as error:
        name = cfg.SOLVER.LR_SCHEDULER_NAME
        raise ConfigError(
            f"SOLVER.LR_SCHEDULER_NAME {name}: {error}; set it to WarmupMultiStepLR, WarmupCosineLR or "
            "WarmupStepWithFixedGammaLR"
        ) from error
