"""The floating-point type that the network computes in while it predicts."""

import contextlib

import torch
from detectron2.config import CfgNode

from ..engine.amp import autocast_dtype


def autocast(cfg: CfgNode, device: torch.device, precision: str | None) -> contextlib.AbstractContextManager:
    """Autocast as in the evaluation of a training; float16 is a GPU's, elsewhere full precision takes its place.

    Args:
        precision: "float32" or "bfloat16"; None takes that of the config, SOLVER.AMP.
    """
    if precision is not None:
        half = precision == "bfloat16"
        return torch.autocast(device.type, torch.bfloat16) if half else contextlib.nullcontext()
    if cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.AMP.PRECISION == "float16" and device.type != "cuda":
        return contextlib.nullcontext()
    dtype = autocast_dtype(cfg)
    return torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()
