"""Time of an inference by stage."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from ..structures.roi_atlas import RoiAtlas


class StageTimer:
    """Seconds spent in named callables while it is on; time in one that another calls counts for the inner one alone.

    Usage::

        timer = StageTimer(device)
        with timer.watching([("backbone", model.backbone, "forward"), ...]):
            model(inputs)
        timer.seconds
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since = 0.0

    @contextmanager
    def watching(self, stages: list[tuple[str, Any, str]]) -> Iterator[None]:
        """Time methods while it is on.

        Args:
            stages: (name of the stage, module or class, name of its method); several may share a name.
        """
        with ExitStack() as stack:
            for name, owner, method in stages:
                had_own = method in vars(owner)
                original = getattr(owner, method)
                setattr(owner, method, self._timed(name, original))
                stack.callback(setattr, owner, method, original) if had_own else stack.callback(delattr, owner, method)
            yield

    def _timed(self, name: str, call: Callable) -> Callable:
        def timed(*args, **kwargs):
            self._switch()
            self._stack.append(name)
            try:
                return call(*args, **kwargs)
            finally:
                self._switch()
                self._stack.pop()

        return timed

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _switch(self) -> None:
        now = self._now()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now


def model_stages(model: nn.Module) -> list[tuple[str, Any, str]]:
    """The stages of an ``ObjectGuidedRCNN``, as :meth:`StageTimer.watching` takes them; "other" is what none has."""
    head = model.roi_heads.mask_head
    return [
        ("other", model, "forward"),
        ("backbone", model.backbone, "forward"),
        *(("decoder", module, "forward") for module in model.backbone.decoder.values()),
        ("proposal generator", model.proposal_generator, "forward"),
        ("mask head", head, "forward"),
        ("ROI crop", RoiAtlas, "crop"),
        ("post-processing", model, "_postprocess"),
    ]


def time_stages(model: nn.Module, call: Callable[[], object], repetitions: int) -> dict[str, float]:
    """Stage -> seconds of one call, the mean over the repetitions after an untimed one."""
    call()
    timer = StageTimer(model.device)
    with timer.watching(model_stages(model)):
        for _ in range(repetitions):
            call()
    return {stage: seconds / repetitions for stage, seconds in timer.seconds.items()}
