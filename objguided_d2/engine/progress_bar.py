"""A bar of the training steps."""

import sys

from detectron2.engine import HookBase
from tqdm import tqdm


class ProgressBar(HookBase):
    """A bar of the training steps with the time left and the loss, in place of a log on the terminal."""

    def before_train(self) -> None:
        # A log file gets a line every half a minute, not every tenth of a second.
        interval = 0.1 if sys.stderr.isatty() else 30
        # Where the clock ends it, the number of steps is not known.
        first, last = self.trainer.start_iter, None if self.trainer.clock.max_minutes > 0 else self.trainer.max_iter
        self._bar = tqdm(desc="train", unit="step", initial=first, total=last, mininterval=interval)

    def after_step(self) -> None:
        self._bar.set_postfix(loss=f"{self.trainer.storage.history('total_loss').latest():.2f}", refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        self._bar.close()
