"""Section II-B: ROIs, their crops, Module B and S, the ladder and its loss, one ROI at a time."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

State = dict[str, torch.Tensor]
STRIDES = (1, 2, 4, 8, 16)


def cxcywh_to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """(R, 4) -> (R, 4)."""
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], dim=1)


def enlarge_boxes(boxes: torch.Tensor, factor: float) -> torch.Tensor:
    """(R, 4) XYXY with width and height multiplied by ``factor`` about the center; not clipped to the image."""
    center, size = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * factor
    return cxcywh_to_xyxy(torch.cat([center, size], dim=1))


def crop_size(box: torch.Tensor, stride: int) -> tuple[int, int]:
    """(h, w) of the crop of an enlarged XYXY box at a stride: its sides divided by the stride, cut to integers."""
    return int((box[3] - box[1]) / stride), int((box[2] - box[0]) / stride)


def grid_positions(first: torch.Tensor, last: torch.Tensor, count: int) -> torch.Tensor:
    """(count,) positions laid evenly from ``first`` to ``last``, both included; ``count`` >= 2.

    Counted up from ``first``, which repeats the released program to the last bit; torch.linspace does not.
    """
    return first + torch.arange(count) * ((last - first) / (count - 1))


def sample_at(feature: torch.Tensor, xs: torch.Tensor, ys: torch.Tensor) -> torch.Tensor:
    """(1, C, H, W) sampled bilinearly at xs (w,) x ys (h,) -> (1, C, h, w), in pixels of the map, centers at integers.

    A neighbor outside the map counts as zero.
    """
    height, width = feature.shape[-2:]
    grid_x, grid_y = 2 * xs / (width - 1) - 1, 2 * ys / (height - 1) - 1
    grid = torch.stack(torch.meshgrid(grid_x, grid_y, indexing="xy"), dim=-1)[None]
    return F.grid_sample(feature, grid, padding_mode="zeros", align_corners=True)


def crop_roi(feature: torch.Tensor, box: torch.Tensor, stride: int) -> torch.Tensor:
    """Crop (1, C, h, w) of one enlarged XYXY box (4,), in input pixels, from the (1, C, H, W) map of a stride."""
    h, w = crop_size(box, stride)
    x1, y1, x2, y2 = box / stride
    return sample_at(feature, grid_positions(x1, x2, w), grid_positions(y1, y2, h))


def count_levels(box: torch.Tensor, strides: Sequence[int] = STRIDES, min_size: int = 2) -> int:
    """How many crops of an enlarged box are kept: up to the first stride with a side under ``min_size`` points."""
    for level, stride in enumerate(strides):
        if min(crop_size(box, stride)) < min_size:
            return level
    return len(strides)


def submodule(state: State, name: str) -> State:
    """Entries of a state dict under ``name.``, with that prefix taken off."""
    return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(name + ".")}


def module_b(low: torch.Tensor, skip: torch.Tensor, state: State) -> torch.Tensor:
    """Module B with batch statistics (training mode); ``state`` has the names of the released program."""

    def batch_norm(x: torch.Tensor, norm: State) -> torch.Tensor:
        return F.batch_norm(x, None, None, norm["weight"], norm["bias"], training=True)

    return _combine(low, skip, state, batch_norm)


def module_s(low: torch.Tensor, skip: torch.Tensor, state: State) -> torch.Tensor:
    """Module S (Eq. 6): statistics per ROI and channel; scale and shift 1 and 0 if ``state`` holds none."""

    def instance_norm(x: torch.Tensor, norm: State) -> torch.Tensor:
        return F.instance_norm(x, weight=norm.get("weight"), bias=norm.get("bias"))

    return _combine(low, skip, state, instance_norm)


def _combine(low: torch.Tensor, skip: torch.Tensor, state: State, normalize: Callable) -> torch.Tensor:
    low = F.interpolate(low, size=skip.shape[-2:], mode="bilinear", align_corners=False)
    low = F.conv2d(low, state["up.0.weight"], state["up.0.bias"], padding=1)
    low = F.relu(normalize(low, submodule(state, "up.1")))
    both = F.conv2d(torch.cat([skip, low], dim=1), state["cat_conv.0.weight"], state["cat_conv.0.bias"])
    return F.relu(normalize(both, submodule(state, "cat_conv.1")))


def seg_head(e1: torch.Tensor, state: State) -> torch.Tensor:
    """(1, C, h, w) -> mask logits (h, w)."""
    hidden = F.relu(F.conv2d(e1, state["0.weight"], state["0.bias"], padding=1))
    return F.conv2d(hidden, state["2.weight"], state["2.bias"], padding=1)[0, 0]


def mask_ladder(features: Sequence[torch.Tensor], box: torch.Tensor, state: State) -> tuple:
    """The ladder of one ROI.

    Args:
        features: c1..c5 of one image, (1, C, H / s, W / s) each.
        box: (4,) XYXY, already enlarged.
        state: released names, ``seg_combine.0`` (gives e1) to ``seg_combine.3`` (gives e4) and ``seg_head``.

    Returns:
        mask logits (h, w), [e1, e2, ...] up to the deepest level kept, where the last is the crop of that level as it
        is. With no level kept: (None, []).
    """
    levels = count_levels(box)
    if levels == 0:
        return None, []
    crops = [crop_roi(feature, box, stride) for feature, stride in zip(features[:levels], STRIDES)]
    maps = [crops[-1]]
    for level in reversed(range(levels - 1)):
        maps.insert(0, module_s(maps[0], crops[level], submodule(state, f"seg_combine.{level}")))
    return seg_head(maps[0], submodule(state, "seg_head")), maps


def mask_loss(logits: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> torch.Tensor:
    """Eq. 7: binary cross-entropy averaged over the pixels of each ROI, then over the ROIs (of different sizes)."""
    losses = [F.binary_cross_entropy_with_logits(logit, target) for logit, target in zip(logits, targets)]
    return torch.stack(losses).mean()
