"""Evaluation while training and after it, which a signal cuts short."""

from collections.abc import Callable

from detectron2.engine import hooks

from .errors import Interruption
from .interrupt import StopOnSignal


class EvaluationHook(hooks.EvalHook):
    """Detectron2's hook; nothing is evaluated once the run has failed or was interrupted.

    Args:
        period: iterations between evaluations, 0 for none before the end.
        evaluate: returns a nested dict of metrics.
        stop: cuts an evaluation short.
    """

    def __init__(self, period: int, evaluate: Callable[[], dict], stop: StopOnSignal) -> None:
        super().__init__(period, evaluate)
        self._stop = stop

    def _do_eval(self) -> None:
        if not self.trainer.interrupted:
            with self._stop.cut_short():
                super()._do_eval()

    def after_train(self) -> None:
        try:
            super().after_train()
        except Interruption:
            self.trainer.end_at_once(None)
