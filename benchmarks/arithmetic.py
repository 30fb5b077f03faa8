"""How much arithmetic the mask head needs at least, how fast convolutions run, and how many operations it runs."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from objguided_d2.modeling.mask_head import ObjectGuidedMaskHead
from objguided_d2.profiling.timing import interleaved_rounds
from objguided_d2.structures.roi_atlas import RoiAtlas, expand_boxes

MIN_ROUNDS = 3
# (channels, side of the map) of the convolutions among which the fastest sets the peak.
PEAK_CONVOLUTIONS = ((64, 256), (96, 128), (128, 128), (256, 64))


def convolution_peak(dtype: torch.dtype, seconds: float = 0.5) -> float:
    """GFLOP/s of the fastest of some 3x3 convolutions on one large map, channels last; ``seconds`` for each."""
    best = 0.0
    for channels, side in PEAK_CONVOLUTIONS:
        weight = torch.randn(channels, channels, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
        image = torch.randn(1, channels, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
        call = partial(F.conv2d, image, weight, padding=1)
        with torch.no_grad():
            once = interleaved_rounds({"": call}, MIN_ROUNDS)[""].median
            timing = interleaved_rounds({"": call}, max(MIN_ROUNDS, int(seconds / once)))[""]
        best = max(best, 2 * weight.numel() * side * side / timing.median / 1e9)
    return best


def min_gflops(head: ObjectGuidedMaskHead, boxes: Tensor) -> float:
    """Of the convolutions over the ROIs' own pixels, without padding or gutters, a multiply-add counted as two.

    Args:
        boxes: (R, 4) XYXY in input pixels, not enlarged.
    """
    expanded = expand_boxes(boxes, head.box_expansion, head.box_expansion_pixels)
    image = torch.zeros(len(boxes), dtype=torch.int64)
    atlas = RoiAtlas(expanded, image, head.strides, head.min_crop_size, head.grid)
    products = atlas.grids[0].num_pixels * sum(c.weight.numel() for c in (head.seg_head.conv, head.seg_head.predictor))
    for level, module in enumerate(head.ladder):
        pixels = atlas.grids[level].prefix(len(atlas.grids[level + 1])).num_pixels
        products += pixels * (module.up.weight.numel() + module.merge.weight.numel())
    return 2 * products / 1e9


def convolution_seconds(call: Callable[[], object], repetitions: int = 3) -> float:
    """Time of a call in convolutions and matrix products, by PyTorch's profiler, the minimum over the repetitions."""
    call()
    seconds = []
    for _ in range(repetitions):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            call()
        names = ("aten::convolution", "aten::addmm", "aten::mm")
        events = [event for event in profiler.key_averages() if event.key in names]
        seconds.append(sum(event.cpu_time_total for event in events) / 1e6)
    return min(seconds)


class OperationCounter(TorchDispatchMode):
    """Counts the tensor operations that run inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))
