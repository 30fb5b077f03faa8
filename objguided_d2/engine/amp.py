"""Mixed precision on any device: SOLVER.AMP.ENABLED and SOLVER.AMP.PRECISION."""

import time
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from torch import nn

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


class AMPTrainer(SimpleTrainer):
    """Detectron2's training step under autocast, for CPU too; float16 gradients are scaled against underflow."""

    def __init__(
        self, model: nn.Module, data_loader: Any, optimizer: torch.optim.Optimizer, dtype: torch.dtype
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self._dtype = dtype
        self._device_type = next(model.parameters()).device.type
        self._grad_scaler = torch.amp.GradScaler(self._device_type, enabled=dtype == torch.float16)

    def run_step(self) -> None:
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast(self._device_type, self._dtype):
            loss_dict = self.model(data)
        self.optimizer.zero_grad()
        self._grad_scaler.scale(sum(loss_dict.values())).backward()
        self.after_backward()
        self._write_metrics(loss_dict, data_time)
        self._grad_scaler.step(self.optimizer)
        self._grad_scaler.update()

    def state_dict(self) -> dict:
        return {**super().state_dict(), "grad_scaler": self._grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self._grad_scaler.load_state_dict(state_dict["grad_scaler"])


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
