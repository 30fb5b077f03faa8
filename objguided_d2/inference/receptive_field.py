"""How far the network sees: the halo that a tile needs, computed from the model itself."""

import copy
import math

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

_LOCAL_NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d)
_GLOBAL_NORMS = (nn.GroupNorm, nn.modules.instancenorm._InstanceNorm, nn.LayerNorm)


def receptive_field(model: nn.Module) -> int:
    """Greatest distance, in input pixels, over which the dense part of the network reads.

    A pixel farther than this from a cell of the center maps or of c1 to c5 has no influence on it. A copy of the model
    in which every convolution averages over its window has only positive influences, which cannot cancel; how far they
    reach is read off the gradients of outputs with respect to a line of the input. Strides and interpolations count as
    they are. The mask branch works on crops of these maps, so an object whose ROI reaches d pixels from its center
    needs a halo of d more.

    Args:
        model: an ``ObjectGuidedRCNN``.

    Returns:
        pixels of the network's input.

    Raises:
        ValueError: if a norm of the backbone takes statistics of the whole image, as GN does.
    """
    backbone, generator = (_averaging(copy.deepcopy(part)) for part in (model.backbone, model.proposal_generator))
    outputs = [*backbone.output_shape(), "heatmap", "wh", "offset"]
    length = 1024
    while True:
        reach = _reach(outputs, backbone, generator, length)
        # The line must be longer than what is read, or its ends cut the reach off.
        if 2 * reach + 4 * backbone.size_divisibility < length:
            return reach
        length *= 2


class _Averaging(nn.Module):
    """A convolution that averages over its window and over channels, with one channel out."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, conv.kernel_size, conv.stride, conv.padding, conv.dilation, bias=False).double()
        nn.init.constant_(self.conv.weight, 1.0 / math.prod(conv.kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.mean(1, keepdim=True))


def _averaging(part: nn.Module) -> nn.Module:
    for name, child in part.named_children():
        if isinstance(child, _GLOBAL_NORMS):
            raise ValueError(
                f"{type(child).__name__} takes statistics of the whole image: no halo makes tiles equal to it"
            )
        if isinstance(child, nn.Conv2d):
            # Detectron2's convolutions hold their norm.
            _averaging(child)
            setattr(part, name, _Averaging(child))
        elif isinstance(child, _LOCAL_NORMS):
            setattr(part, name, nn.Identity())
        else:
            _averaging(child)
    return part


def _reach(outputs: list[str], backbone: nn.Module, generator: nn.Module, length: int) -> int:
    """Reach of the outputs' middle cells, over a period of the largest stride."""
    period = backbone.size_divisibility
    line = torch.ones(1, 1, period, length, dtype=torch.float64, requires_grad=True)
    reach = 0
    with torch.enable_grad():
        features = backbone(line)
        for name in outputs:
            values = (
                features[name] if name in features else getattr(generator.head, name)(features[generator.in_feature])
            )
            stride = length // values.shape[-1]
            middle = length // 2 // stride
            for cell in range(middle, middle + max(1, period // stride)):
                (gradient,) = torch.autograd.grad(values[:, :, :, cell].sum(), line, retain_graph=True)
                columns = torch.nonzero(gradient.sum((0, 1, 2)))[:, 0]
                center = (cell + 0.5) * stride
                farthest = torch.maximum(center - columns.min(), columns.max() + 1 - center)
                reach = max(reach, math.ceil(float(farthest)))
    return reach
