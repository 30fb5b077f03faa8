"""SOLVER.OPTIMIZER with Detectron2's parameter groups and gradient clipping."""

import torch
from detectron2.config import CfgNode
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from .errors import ConfigError


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Optimizer over the trainable parameters of ``model`` (SOLVER.OPTIMIZER: SGD, Adam or AdamW).

    SOLVER.CLIP_GRADIENTS.CLIP_TYPE is Detectron2's ``value`` or ``norm`` (each parameter by itself), or
    ``full_model``: the norm of all gradients together.

    Raises:
        ConfigError: for an optimizer or a clip type that does not exist.
    """
    solver = cfg.SOLVER
    params = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    common = {"lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY, "foreach": True}
    if solver.OPTIMIZER == "SGD":
        optimizer = torch.optim.SGD(params, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV, **common)
    elif solver.OPTIMIZER in ("Adam", "AdamW"):
        optimizer = getattr(torch.optim, solver.OPTIMIZER)(params, betas=tuple(solver.ADAM_BETAS), **common)
    else:
        raise ConfigError(f"SOLVER.OPTIMIZER = {solver.OPTIMIZER!r} is unknown; set it to SGD, Adam or AdamW")
    return _add_gradient_clipping(cfg, optimizer)


def _add_gradient_clipping(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if clip.CLIP_TYPE not in ("value", "norm", "full_model"):
        raise ConfigError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE = {clip.CLIP_TYPE!r} is unknown; set it to value, norm or full_model"
        )
    if not clip.ENABLED or clip.CLIP_TYPE != "full_model":
        return maybe_add_gradient_clipping(cfg, optimizer)

    max_norm, norm_type = clip.CLIP_VALUE, clip.NORM_TYPE

    # Before the update itself, so that mixed precision has already divided its scale out.
    def clip_all(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(params, max_norm, norm_type)

    optimizer.register_step_pre_hook(clip_all)
    return optimizer
