"""The mask head as a well-optimized loop over ROIs: the baseline of the batched mask head.

Same arithmetic as ``rois.mask_ladder``, arranged for speed: maps and weights are laid out channels last once, outside
the loop, ReLUs are in place, and instance norm is done as batch norm of a batch of one, which has a kernel for this
layout where ``instance_norm`` copies. On a CPU, ``grid_sample`` was faster than separable or gathered crops, and the
concatenation of Module S faster than a 1x1 convolution split in two.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from benchmarks.reference.refine import most_uncertain, point_logits, point_uncertainty, soft_labels
from benchmarks.reference.rois import STRIDES, State, count_levels, crop_roi, enlarge_boxes, sample_at, submodule


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """Maps and 2-d convolution weights in channels-last layout, anything else as it is; no copy if it is so already."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def mask_head_loop(
    features: Sequence[torch.Tensor] | Mapping[str, torch.Tensor],
    boxes: torch.Tensor,
    state: State,
    expansion: float = 1.1,
) -> tuple[list, list, list]:
    """Masks of one image's boxes, one after the other; differentiable.

    Args:
        features: c1..c5, (1, C, H / s, W / s) each, as a list or by name.
        boxes: (R, 4) XYXY in input pixels, not yet enlarged.
        state: released names: ``seg_combine.0`` (gives e1) to ``seg_combine.3`` (gives e4), ``seg_head``. Norm scale
            and shift (``up.1.weight`` ...) may be absent. ``entry.1`` ... project the crop that a ladder starts from,
            where the widths of map and ladder differ.

    Returns:
        logits (h, w), e1 (1, C, h, w) and e2 (1, C, h / 2, w / 2): three lists of R. An ROI with no level
        left has None in all three, one with a single level has None for e2.
    """
    if isinstance(features, Mapping):
        features = [features[name] for name in ("c1", "c2", "c3", "c4", "c5")]
    features = [channels_last(feature) for feature in features]
    state = {name: channels_last(value) for name, value in state.items()}
    ladder = [submodule(state, f"seg_combine.{level}") for level in range(len(features) - 1)]
    head = submodule(state, "seg_head")
    results = []
    for box in enlarge_boxes(boxes, expansion):
        levels = count_levels(box)
        if levels == 0:
            results.append((None, None, None))
            continue
        crops = [crop_roi(feature, box, stride) for feature, stride in zip(features[:levels], STRIDES)]
        e = crops[-1]
        if f"entry.{levels - 1}.weight" in state:
            entry = submodule(state, f"entry.{levels - 1}")
            e = F.conv2d(e, entry["weight"][:, :, None, None], entry["bias"])
        e2 = e if levels == 2 else None
        for level in reversed(range(levels - 1)):
            e = _module_s(e, crops[level], ladder[level])
            e2 = e if level == 1 else e2
        hidden = F.conv2d(e, head["0.weight"], head["0.bias"], padding=1).relu_()
        logits = F.conv2d(hidden, head["2.weight"], head["2.bias"], padding=1)
        results.append((logits[0, 0], e, e2))
    return [mask for mask, _, _ in results], [e1 for _, e1, _ in results], [e2 for _, _, e2 in results]


def mask_head_loop_losses(
    features: Sequence[torch.Tensor] | Mapping[str, torch.Tensor],
    boxes: torch.Tensor,
    true_masks: torch.Tensor,
    state: State,
    points: Sequence[torch.Tensor],
    keep: Sequence[int],
    expansion: float = 1.1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask loss (Eq. 7) and refinement loss (Eq. 8-9), unweighted, of ROIs that have two levels or more.

    Args:
        true_masks: (R, H, W) float.
        state: as of :func:`mask_head_loop`, with ``point_head0.0`` and ``point_head1.0``.
        points: (k N, 2) drawn points of each ROI; the ``keep`` most uncertain of them count.
    """
    mask_losses, refine_losses = [], []
    rois = zip(enlarge_boxes(boxes, expansion), true_masks, points, keep, *mask_head_loop(features, boxes, state))
    for box, true_mask, drawn, count, logits, e1, e2 in rois:
        height, width = logits.shape
        x = box[0] + torch.arange(width) * ((box[2] - box[0]) / (width - 1))
        y = box[1] + torch.arange(height) * ((box[3] - box[1]) / (height - 1))
        target = sample_at(true_mask[None, None], x, y)[0, 0]
        mask_losses.append(F.binary_cross_entropy_with_logits(logits, target))
        with torch.no_grad():
            chosen = drawn[most_uncertain(point_uncertainty(logits.sigmoid(), drawn), count)]
            labels = soft_labels(true_mask, box, chosen)
        outputs = point_logits(e1, e2, chosen, state)
        refine_losses.append(sum(F.binary_cross_entropy_with_logits(output, labels) for output in outputs))
    return torch.stack(mask_losses).mean(), torch.stack(refine_losses).mean()


def _module_s(low: torch.Tensor, skip: torch.Tensor, state: State) -> torch.Tensor:
    low = F.interpolate(low, size=skip.shape[-2:], mode="bilinear", align_corners=False)
    low = _norm_relu(F.conv2d(low, state["up.0.weight"], state["up.0.bias"], padding=1), submodule(state, "up.1"))
    both = F.conv2d(torch.cat([skip, low], dim=1), state["cat_conv.0.weight"], state["cat_conv.0.bias"])
    return _norm_relu(both, submodule(state, "cat_conv.1"))


def _norm_relu(x: torch.Tensor, norm: State) -> torch.Tensor:
    return F.batch_norm(x, None, None, norm.get("weight"), norm.get("bias"), training=True).relu_()
