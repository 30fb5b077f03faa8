"""The training of a fine-tuning: the trainer's, judged on held-out images and ended when that does not help."""

import time
from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.engine import hooks
from detectron2.evaluation.testing import flatten_results_dict

from ..engine.checkpoint import BestModel
from ..engine.evaluation_hook import EvaluationHook
from ..engine.interrupt import StopOnSignal
from ..engine.trainer import Trainer
from .recipe import METRICS, MUCH_WORSE


class HeldOutEvaluation(EvaluationHook):
    """Evaluates at even fractions of the training and ends it after ``patience`` evaluations under MUCH_WORSE
    times the best.

    Args:
        count: evaluations; the last comes at the end.
        patience: of them in a row.
        progress: tells the fraction of the training that is done after so many steps.
        evaluate: returns a nested dict of metrics and offers the model to ``best``.
        best: the best model so far.
        stop: cuts an evaluation short.
    """

    def __init__(
        self,
        count: int,
        patience: int,
        progress: Callable[[int], float],
        evaluate: Callable[[], dict],
        best: BestModel,
        stop: StopOnSignal,
    ) -> None:
        super().__init__(0, evaluate, stop)
        self._count, self._patience, self._progress, self._best = count, patience, progress, best
        self._num_done = self._num_much_worse = 0
        self.stopped_early = False
        # One dict an evaluation: "step", the number of steps before it, and METRICS.
        self.history: list[dict[str, float]] = []

    def before_train(self) -> None:
        # The evaluation that an interruption cut off: its checkpoint is from before.
        self._evaluate_if_due(self.trainer.start_iter)

    def after_step(self) -> None:
        self._evaluate_if_due(self.trainer.iter + 1)

    def _evaluate_if_due(self, steps: int) -> None:
        due = int(self._progress(steps) * self._count)
        if due <= self._num_done or steps >= self.trainer.max_iter:  # The last one comes after the training.
            return
        self._evaluate_after(steps)
        self._num_done = due
        if self._num_much_worse >= self._patience:
            self.stopped_early = True
            self.trainer.max_iter = steps

    def after_train(self) -> None:
        # Stopped early, it has been evaluated.
        if self.history and self.history[-1]["step"] == self.trainer.iter:
            self._eval_after_train = False
        super().after_train()

    def _do_eval(self) -> None:
        self._evaluate_after(self.trainer.max_iter)

    def _evaluate_after(self, steps: int) -> None:
        if self.trainer.interrupted:
            return
        super()._do_eval()
        results = flatten_results_dict(self.trainer._last_eval_results)
        self.history.append({"step": steps, **{name: float(results[key]) for name, key in METRICS.items()}})
        # Before anything is found, more training is the only hope.
        much_worse = self.history[-1]["AP"] < MUCH_WORSE * (self._best.best or 0.0)
        self._num_much_worse = self._num_much_worse + 1 if much_worse else 0

    def state_dict(self) -> dict:
        return {
            "num_done": self._num_done,
            "num_much_worse": self._num_much_worse,
            "history": [dict(entry) for entry in self.history],
        }

    def load_state_dict(self, state: dict) -> None:
        self._num_done, self._num_much_worse = state["num_done"], state["num_much_worse"]
        self.history = state["history"]


class FinetuneTrainer(Trainer):
    """The trainer with :class:`HeldOutEvaluation` in place of evaluations every so many steps.

    Args:
        evaluations, patience: see there.
        started: when the fine-tuning did, by ``time.monotonic``.

    Attributes:
        started: of a resumed one, so much earlier as the calls before took.
    """

    def __init__(self, cfg: CfgNode, evaluations: int, patience: int, started: float) -> None:
        self._evaluations, self._patience, self.started = evaluations, patience, started
        self.held_out: HeldOutEvaluation | None = None
        super().__init__(cfg)

    def build_hooks(self) -> list[hooks.HookBase | None]:
        return [self._judging(hook) if isinstance(hook, EvaluationHook) else hook for hook in super().build_hooks()]

    def _judging(self, hook: EvaluationHook) -> HeldOutEvaluation:
        def progress(steps: int) -> float:
            return max(self.clock.fraction, steps / self.cfg.SOLVER.MAX_ITER)

        self.held_out = HeldOutEvaluation(
            self._evaluations, self._patience, progress, self._evaluate, self.best_model, self.stop
        )
        return self.held_out

    def state_dict(self) -> dict:
        return {**super().state_dict(), "elapsed_seconds": time.monotonic() - self.started}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        # Older checkpoints do not say.
        self.started -= state_dict.get("elapsed_seconds", 0.0)
