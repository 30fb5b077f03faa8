"""A model prepared for inference on a CPU: the same values up to rounding, with fewer passes over memory."""

from typing import Any

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_FOLDABLE = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d)


def prepare_for_cpu(model: nn.Module) -> nn.Module:
    """Fold BatchNorm into the convolutions before it and lay weights out channels last, in place.

    The model can then neither be trained nor saved as a checkpoint: its norms are gone from the state dict.

    Args:
        model: in eval mode.

    Returns:
        ``model``.
    Raises:
        ValueError: in training mode, where the statistics of a BatchNorm are those of each batch.
    """
    if model.training:
        raise ValueError("a model is prepared for inference in eval mode only")
    for module in model.modules():
        # Detectron2's convolution holds its norm. One without running statistics takes those of the image.
        if isinstance(module, Conv2d) and isinstance(module.norm, _FOLDABLE) and module.norm.running_var is not None:
            norm: Any = module.norm
            module.weight, module.bias = fuse_conv_bn_weights(
                module.weight, module.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            module.norm = None
    return model.to(memory_format=torch.channels_last)


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16; others emulate it, slower than float32."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check is not None and check() for check in checks)
