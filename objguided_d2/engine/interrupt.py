"""Ctrl-C and SIGTERM end a training after the step in progress, with a checkpoint to go on from."""

import logging
import os
import signal
from types import FrameType
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class StopOnSignal(HookBase):
    """Sets ``trainer.interrupted`` after the step in which any process got SIGINT or SIGTERM, and saves a checkpoint.

    A second signal acts at once, as without this hook. Must come after the hooks that update checkpointed state.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._received = False
        self._former: dict[int, Any] = {}

    def before_train(self) -> None:
        self._former = {number: signal.signal(number, self._receive) for number in self.SIGNALS}

    def after_train(self) -> None:
        self._restore()

    def after_step(self) -> None:
        if not any(comm.all_gather(self._received)):
            return
        trainer = self.trainer
        trainer.interrupted = True
        trainer.checkpointer.save(f"model_{trainer.iter:07d}", iteration=trainer.iter)
        logger.warning(
            "Stopped after iteration %d; to go on, give the same command with --resume (OUTPUT_DIR is %s)",
            trainer.iter,
            trainer.cfg.OUTPUT_DIR,
        )

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        self._restore()
        # Written past the logger, whose lock the interrupted code may hold.
        os.write(2, b"Stopping after this step; once more to stop at once.\n")

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
