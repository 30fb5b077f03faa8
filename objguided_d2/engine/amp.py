"""The training step, in full or mixed precision on any device: SOLVER.AMP.ENABLED and SOLVER.AMP.PRECISION."""

import math
import os
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import nn

from .errors import DivergenceError

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def autocast_dtype(cfg: CfgNode) -> torch.dtype | None:
    """Type that autocast computes in; None where mixed precision is off.

    Raises:
        ValueError: for a precision that does not exist, and for float16 on a CPU.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    precision = cfg.SOLVER.AMP.PRECISION
    if precision not in _DTYPES:
        raise ValueError(f"SOLVER.AMP.PRECISION = {precision!r} is unknown; set it to float16 or bfloat16")
    if precision == "float16" and torch.device(cfg.MODEL.DEVICE).type != "cuda":
        raise ValueError(
            f"SOLVER.AMP.PRECISION = float16 needs CUDA, but MODEL.DEVICE is {cfg.MODEL.DEVICE}; set it to bfloat16"
        )
    return _DTYPES[precision]


class StepTrainer(SimpleTrainer):
    """Detectron2's training step; under autocast for CPU too, with float16 gradients scaled against underflow.

    A loss that is not finite in one process ends the step in all of them, before the weights change.

    Args:
        dtype: of autocast; None computes in full precision.

    Attributes:
        is_updating: whether the weights may be those of neither the former step nor this one. Whoever counts completed
            steps sets it back.
    """

    def __init__(
        self, model: nn.Module, data_loader: Any, optimizer: torch.optim.Optimizer, dtype: torch.dtype | None
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.is_updating = False
        self._dtype = dtype
        self._device_type = next(model.parameters()).device.type
        self._grad_scaler = torch.amp.GradScaler(self._device_type, enabled=dtype == torch.float16)

    def run_step(self) -> None:
        """
        Raises:
            DivergenceError: for a loss that is NaN or infinite.
        """
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with self._autocast():
            loss_dict = self.model(data)
        self.optimizer.zero_grad()
        self._grad_scaler.scale(sum(loss_dict.values())).backward()
        self.after_backward()
        self._write_losses({name: loss.detach().item() for name, loss in loss_dict.items()}, data_time, data)
        self.is_updating = True
        self._grad_scaler.step(self.optimizer)
        self._grad_scaler.update()

    def end_loading(self) -> None:
        """End the processes of the data loader at once; asked one by one, each would finish its batch first."""
        for worker in getattr(self._data_loader_iter_obj, "_workers", ()):
            worker.terminate()
        self.reset_data_loader(lambda: None)

    def state_dict(self) -> dict:
        return {**super().state_dict(), "grad_scaler": self._grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):  # None from a run in another precision.
            self._grad_scaler.load_state_dict(state_dict["grad_scaler"])

    def _autocast(self) -> AbstractContextManager:
        return nullcontext() if self._dtype is None else torch.autocast(self._device_type, self._dtype)

    def _write_losses(self, losses: dict[str, float], data_time: float, data: list[dict]) -> None:
        """Put the means over all processes into the storage of the main one, as Detectron2 does."""
        broken = {name: value for name, value in losses.items() if not math.isfinite(value)}
        images = [os.path.basename(str(sample.get("file_name", "?"))) for sample in data] if broken else []
        everyones = comm.all_gather((losses, data_time, broken, images))
        for _, _, broken, images in everyones:
            if broken:
                raise DivergenceError(self._divergence_message(broken, images))
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time)
        if comm.is_main_process():
            storage.put_scalar("data_time", max(seconds for _, seconds, _, _ in everyones))
            means = {name: np.mean([other[name] for other, _, _, _ in everyones]) for name in losses}
            storage.put_scalar("total_loss", sum(means.values()))
            if len(means) > 1:
                storage.put_scalars(**means)

    def _divergence_message(self, broken: dict[str, float], images: list[str]) -> str:
        values = ", ".join(f"{name} is {value}" for name, value in broken.items())
        rate = self.optimizer.param_groups[0]["lr"]
        return (
            f"{values} at iteration {self.iter} with learning rate {rate:.3g} on {', '.join(images)}. The last "
            "checkpoint is from before; go on from it with --resume and SOLVER.CLIP_GRADIENTS, or start anew with a "
            "lower SOLVER.BASE_LR or more SOLVER.WARMUP_ITERS"
        )


class AutocastModel(nn.Module):
    """``model`` with its forward pass under autocast; what is done with the outputs keeps full precision."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self._dtype = dtype
        self._device_type = next(model.parameters()).device.type

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        with torch.autocast(self._device_type, self._dtype):
            return self.model(batched_inputs)
