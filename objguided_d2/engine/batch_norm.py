"""BatchNorm that ends its training with the statistics it is tested with."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from detectron2.engine import HookBase, hooks
from detectron2.utils.events import EventStorage
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn

from .distributed import broadcast_buffers

logger = logging.getLogger(__name__)


@contextmanager
def unchanged_unless_complete(model: nn.Module) -> Iterator[None]:
    """A block after which the model's buffers are what they were before, unless it ends without an error."""
    former = [buffer.clone() for buffer in model.buffers()]
    momentum = [layer.momentum for layer in get_bn_modules(model)]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), former):
                buffer.copy_(value)
        for layer, value in zip(get_bn_modules(model), momentum):
            layer.momentum = value
        raise


class FreezeBatchNorm(HookBase):
    """From a fraction of the training on, normalize by population statistics in place of those of the batch.

    A small batch of images of several kinds is normalized by whatever it happens to be made of, which the network
    learns to rely on and does not find at test time. Training the rest with fixed statistics takes that
    away. They are measured once, on training batches at the weights of that moment. Scale and shift go on learning.

    Args:
        fraction: of the training, in [0, 1]; at 0 nothing is measured, the statistics are those that the model has.
        progress: tells the fraction that is done.
        model: its BatchNorm layers, in training mode, are those that freeze.
        batches: makes the batches to measure on; called once, on the first step after ``fraction``.
        num_iter: how many of them to take.
        cut_short: makes the context in which they are taken, see :meth:`.interrupt.StopOnSignal.cut_short`.
    """

    def __init__(
        self,
        fraction: float,
        progress: Callable[[], float],
        model: nn.Module,
        batches: Callable[[], Iterable],
        num_iter: int,
        cut_short: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self._cut_short = cut_short
        self._fraction, self._progress, self._batches, self._num_iter = fraction, progress, batches, num_iter
        self._model, self._layers = model, get_bn_modules(model)
        self._measured = fraction == 0

    def before_step(self) -> None:
        if not self._layers or self._progress() < self._fraction:
            return
        if not self._measured:
            logger.info("BatchNorm statistics are measured on %d batches and fixed from here on", self._num_iter)
            # What the model logs of these batches is not of the training.
            with EventStorage(), unchanged_unless_complete(self._model), self._cut_short():
                update_bn_stats(self._model, iter(self._batches()), self._num_iter)
                broadcast_buffers(self._model)
            self._measured = True
        for layer in self._layers:
            layer.eval()  # Each time: an evaluation puts the whole model back into training mode.

    def state_dict(self) -> dict:
        return {"measured": self._measured}

    def load_state_dict(self, state: dict) -> None:
        self._measured = state["measured"]


class PreciseBatchNorm(hooks.PreciseBN):
    """Detectron2's hook, whose measurement a signal cuts short.

    Args:
        period, model, data_loader, num_iter: as Detectron2's.
        cut_short: see :class:`FreezeBatchNorm`.
    """

    def __init__(
        self,
        period: int,
        model: nn.Module,
        data_loader: Iterable,
        num_iter: int,
        cut_short: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        super().__init__(period, model, data_loader, num_iter)
        self._measured_model, self._cut_short = model, cut_short

    def update_stats(self) -> None:
        with unchanged_unless_complete(self._measured_model), self._cut_short():
            super().update_stats()
