"""Whole inference by the plain path: contiguous layout, dense heads, a loop over ROIs, masks as large as the image.

Works on a built model of ours in the paper's setting (grid "edges", votes), by its modules and weights.
"""

import torch
from torch import nn

from benchmarks.reference.postprocess_loop import postprocess_loop
from benchmarks.reference.rois import State, enlarge_boxes, mask_ladder
from objguided_d2.modeling.center_targets import decode, find_peaks

LAYERS = {"up": "up.0", "up_norm": "up.1", "merge": "cat_conv.0", "merge_norm": "cat_conv.1"}


def loop_state(mask_head: nn.Module) -> State:
    """Weights of an ``ObjectGuidedMaskHead`` under the released names that the loops use."""
    state = {}
    for name, value in mask_head.named_parameters():
        part, _, rest = name.partition(".")
        if part == "ladder":
            level, layer, kind = rest.split(".")
            state[f"seg_combine.{level}.{LAYERS[layer]}.{kind}"] = value
        elif part == "seg_head":
            layer, kind = rest.split(".")
            state[f"seg_head.{'0' if layer == 'conv' else '2'}.{kind}"] = value
        elif part == "refinement":
            layer, kind = rest.split(".")
            head = "point_head0.0" if layer == "fine" else "point_head1.0"
            state[f"{head}.{kind}"] = value[:, :, None] if kind == "weight" else value
        else:
            state[name] = value
    return state


@torch.no_grad()
def plain_inference(model: nn.Module, inputs: dict, boxes: torch.Tensor) -> list[dict]:
    """One image through backbone and dense heads in full, then the masks of given boxes (R, 4), and their RLEs."""
    image = (inputs["image"].to(model.device).float() - model.pixel_mean) / model.pixel_std
    features = model.backbone(image[None].contiguous())
    generator = model.proposal_generator
    feature = features[generator.in_feature].contiguous()
    heatmap, wh, offset = (
        branch(feature) for branch in (generator.head.heatmap, generator.head.wh, generator.head.offset)
    )
    _, _, cell = find_peaks(heatmap.sigmoid(), generator.topk)
    wh, offset = (values[0].flatten(1).t()[cell[0]] for values in (wh, offset))
    decode(cell[0], wh, offset, heatmap.shape[-1], generator.stride)
    head = model.roi_heads.mask_head
    state = {name: value.contiguous() for name, value in loop_state(head).items()}
    maps = [features[name].contiguous() for name in head.in_features]
    enlarged = enlarge_boxes(boxes, head.box_expansion)
    probabilities = [mask_ladder(maps, box, state)[0].sigmoid() for box in enlarged]
    post = model.postprocessor
    scores = torch.linspace(0.99, 0.5, len(boxes))
    size = tuple(image.shape[1:])
    _, _, rles = postprocess_loop(probabilities, enlarged, scores, size, post.mask_thresh, post.mask_nms_thresh)
    return rles
