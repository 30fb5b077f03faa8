"""Where the time of an inference goes, room by room."""

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
    def watching(self, rooms: list[tuple[str, Any, str]]) -> Iterator[None]:
        """Args: rooms: (name, module or class, name of its method)."""
        with ExitStack() as stack:
            for name, owner, method in rooms:
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


def rooms_of(model: nn.Module) -> list[tuple[str, Any, str]]:
    """The rooms of an ``ObjectGuidedRCNN``; the whole model is the first and has what lies in no other."""
    head = model.roi_heads.mask_head
    return [
        ("rest", model, "forward"),
        ("backbone", model.backbone, "forward"),
        *(("decoder", module, "forward") for module in model.backbone.decoder.values()),
        ("center head and decoding", model.proposal_generator, "forward"),
        ("ladder", head, "forward"),
        ("crop", RoiAtlas, "crop"),
        ("post-processing", model, "_postprocess"),
    ]


def time_stages(model: nn.Module, call: Callable[[], object], repetitions: int) -> dict[str, float]:
    """Room -> seconds of one call, mean over the repetitions after one that does not count."""
    call()
    timer = StageTimer(model.device)
    with timer.watching(rooms_of(model)):
        for _ in range(repetitions):
            call()
    return {room: seconds / repetitions for room, seconds in timer.seconds.items()}
