"""Copy-paste augmentation (Ghiasi et al., CVPR 2021): objects of another image, laid over this one."""

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances

# An object of which less than this fraction is left to be seen no longer trains.
MIN_VISIBLE_FRACTION = 0.2


def paste_instances(
    image: np.ndarray,
    instances: Instances,
    ignore_region: np.ndarray | None,
    source: np.ndarray,
    source_instances: Instances,
    chosen: np.ndarray,
) -> tuple[np.ndarray, Instances, np.ndarray | None]:
    """Lay some objects of ``source`` over ``image``, where they are.

    Args:
        image, source: (H, W, C) uint8, of one size.
        instances, source_instances: gt_boxes, gt_classes and gt_masks (BitMasks) of each.
        ignore_region: (H, W) bool, crowds of ``image``, or None. Those of the source stay behind: of it come only
            pixels of annotated objects, which lie in no region.
        chosen: (S,) bool, which objects of the source to paste.

    Returns:
        The new image; its instances, those of ``image`` without what is covered now, then the pasted ones; its region
        without what is covered now.
    """
    pasted = source_instances[torch.from_numpy(np.flatnonzero(chosen))]
    if not len(pasted):
        return image, instances, ignore_region
    covered = pasted.gt_masks.tensor.any(dim=0)
    masks = instances.gt_masks.tensor
    areas = masks.flatten(1).sum(dim=1)
    visible = masks & ~covered
    kept = visible.flatten(1).sum(dim=1) >= (MIN_VISIBLE_FRACTION * areas).clamp(min=1)
    remaining = instances[kept]
    remaining.gt_masks = BitMasks(visible[kept])
    remaining.gt_boxes = remaining.gt_masks.get_bounding_boxes()
    covered = covered.numpy()
    if ignore_region is not None:
        ignore_region = ignore_region & ~covered
    return np.where(covered[..., None], source, image), Instances.cat([remaining, pasted]), ignore_region
