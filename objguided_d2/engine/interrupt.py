"""Ctrl-C and SIGTERM end a training after the step in progress, with a checkpoint to go on from."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from ..utils.signals import REPEAT_SECONDS, STOPPING
from .errors import Interruption

logger = logging.getLogger(__name__)


class StopOnSignal(HookBase):
    """Sets ``trainer.interrupted`` after the step in which any process got SIGINT or SIGTERM, and saves a checkpoint.

    What may take minutes and changes nothing that a resumed run needs, as an evaluation, is run :meth:`cut_short` and
    ends at once by an :class:`.errors.Interruption`. A second signal acts at once, as without this hook, if it comes
    after REPEAT_SECONDS: before, it may be the same, which the launcher passes on. Must come after the hooks that
    update checkpointed state.

    Attributes:
        received: number of the signal, also of one that another process got; 0 before.
    """

    def __init__(self) -> None:
        self.received = 0
        self._first_time = 0.0
        self._raises = False
        self._former: dict[int, Any] = {}

    def before_train(self) -> None:
        with suppress(ValueError):  # In another thread than the main one signals stay.
            self._former = {number: signal.signal(number, self._receive) for number in STOPPING}

    def after_step(self) -> None:
        # A signal that comes while this is gathered is for the next step.
        if received := max(comm.all_gather(self.received)):
            self.received = received
            self.trainer.interrupted = True
            self.save(self.trainer.iter)

    @contextmanager
    def cut_short(self) -> Iterator[None]:
        """A block that a signal ends.

        Raises:
            Interruption: at a signal in the block, or if there was one before it.
        """
        self._raises = True
        try:
            if self.received:
                raise Interruption(self.received)
            yield
        finally:
            self._raises = False

    def save(self, iteration: int | None) -> None:
        """Write the checkpoint after an iteration and say how to go on from it.

        Args:
            iteration: None where that checkpoint is there already, or -1 where there is nothing yet.
        """
        trainer = self.trainer
        # Nothing was trained since a checkpoint that the run was resumed from.
        if iteration is not None and iteration >= trainer.start_iter:
            trainer.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        when = f"after iteration {iteration}" if iteration is not None else "after the last iteration"
        logger.warning(
            "Stopped %s; to go on, give the same command with --resume (OUTPUT_DIR is %s)",
            "before the first iteration" if iteration == -1 else when,
            trainer.cfg.OUTPUT_DIR,
        )

    def restore(self) -> None:
        """Leave the signals to whom they were left before."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._first_time:  # Not self.received, which may be that of another process.
            if time.monotonic() - self._first_time > REPEAT_SECONDS:
                self.restore()
                signal.raise_signal(number)
            return
        self.received, self._first_time = number, time.monotonic()
        # Written past the logger, whose lock the interrupted code may hold.
        if self._raises:
            os.write(2, b"Stopping; once more to stop without a checkpoint.\n")
            self._raises = False
            raise Interruption(number)
        os.write(2, b"Stopping after this step; once more to stop at once.\n")
