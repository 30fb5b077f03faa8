"""Any image size without seams: an object belongs to the tile in whose core the peak of its center lies.

The whole image has one size in the network, as it would have untiled. Tiles are cut out of that frame: cores lie edge
to edge from its corner, begin at multiples of the network's largest stride, and a tile reads a halo around its core, up
to the border of the image, where the network pads it as it pads the whole image. With a halo of the receptive field
(``receptive_field.py``) and of the largest object, a tile holds the values of the untiled run.

Masks are pasted in the frame of the whole image, and suppression looks at the objects of all tiles together, so that
no seam is left there either. The model's ``topk`` and ``max_detections`` bound the objects of a tile.
"""

import contextlib
import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torch.nn import functional as F

from ..modeling.center_targets import inside_cells
from ..modeling.orientations import detect
from ..modeling.postprocess import InstancePostprocessor
from ..structures.ragged_masks import RaggedMasks
from ..utils.allocator import release_freed_memory
from .object_limits import may_hold_more
from .prefetch import prefetch
from .resample import Region
from .suppression import suppress

# Tiles after which freed memory goes back to the system. What is found in a tile stays among the blocks that its
# feature maps have left; those of the next tiles, which no longer fit between, would make the process grow without end.
_RELEASE_EVERY = 8


@dataclasses.dataclass(frozen=True)
class Tile:
    """A part of the image in the network's pixels, far edges exclusive.

    Attributes:
        core: y0, x0, y1, x1: the objects whose centers lie here are this tile's.
        reads: y0, x0, y1, x1: what goes through the network.
    """

    core: Region
    reads: Region

    @property
    def size(self) -> tuple[int, int]:
        return self.reads[2] - self.reads[0], self.reads[3] - self.reads[1]


def tile_grid(size: tuple[int, int], core: int, halo: int, stride: int) -> list[Tile]:
    """Tiles that cover an image, row by row.

    Args:
        size: (height, width) of the whole image in the network.
        core: side of a core, rounded up to a multiple of ``stride``.
        halo: read around a core, rounded up to a multiple of ``stride``.
        stride: the network's largest.
    """
    core, halo = (math.ceil(length / stride) * stride for length in (core, halo))
    height, width = size
    return [
        Tile(
            (y, x, min(y + core, height), min(x + core, width)),
            (max(y - halo, 0), max(x - halo, 0), min(y + core + halo, height), min(x + core + halo, width)),
        )
        for y in range(0, height, core)
        for x in range(0, width, core)
    ]


@torch.no_grad()
def detect_tiles(
    model: nn.Module,
    tiles: Sequence[Tile],
    read: Callable[[Region], Tensor],
    network_size: tuple[int, int],
    image_size: tuple[int, int],
    *,
    score_threshold: float = 0.0,
    batch_size: int = 1,
    limit: float = math.inf,
    autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    on_tile: Callable[[int], None] = lambda done: None,
) -> list[Instances]:
    """Find the objects of some tiles of an image.

    Args:
        model: an ``ObjectGuidedRCNN`` in eval mode.
        tiles: in the order of :func:`tile_grid`. Whole rows of them give the same, whatever the other rows are.
        read: gives the input (C, h, w) of a region in the network's pixels; called in another thread, ahead of the
            network.
        network_size, image_size: (height, width) of the whole image in the network and of the output.
        score_threshold: instances below it are left out.
        batch_size: tiles of one row and one size that go through the network at once.
        limit: of detections in a tile, see :func:`.object_limits.object_limits`.
        autocast: gives the context that the network runs in.
        on_tile: called with the number of tiles done.

    Returns:
        for each tile, on the CPU: pred_boxes, pred_masks (:class:`RaggedMasks`), scores, pred_classes of the whole
        image, and two (N,) bool: ``is_cut``, the ROI reaches beyond what its tile reads, so that its mask may lack a
        part; ``at_limit``, its tile may hold more objects than ``limit`` lets through.
    """
    found: list[Instances] = []
    inputs = prefetch((tile, read(tile.reads)) for tile in tiles)
    for done, batch in _batches(inputs, batch_size):
        with autocast():
            detections = _detect(model, [tile for tile, _ in batch], [image for _, image in batch])
        for (tile, _), instances in zip(batch, detections):
            at_limit = may_hold_more(instances.scores, limit, score_threshold)
            instances.at_limit = torch.full_like(instances.pred_classes, at_limit, dtype=torch.bool)
            instances = instances[instances.scores >= score_threshold]
            found.append(_paste(instances, tile, network_size, image_size, model.postprocessor))
        if done // _RELEASE_EVERY > (done - len(batch)) // _RELEASE_EVERY or done == len(tiles):
            release_freed_memory()
        on_tile(done)
    return found


def merge_tiles(found: Sequence[Instances], image_size: tuple[int, int], post: InstancePostprocessor) -> Instances:
    """Objects of all tiles, in the order of the tiles -> of the image, best first, those suppressed left out."""
    instances = _cat(found, image_size)
    order = instances.scores.argsort(descending=True, stable=True)
    if post.mask_nms_thresh < 1 and len(order):
        order = suppress(instances.pred_masks, order, post.mask_nms_thresh, instances.pred_classes)
    return instances[order]


def _batches(inputs: Iterable[tuple[Tile, Tensor]], batch_size: int) -> Iterator[tuple[int, list]]:
    """Consecutive tiles of one row and one size, and how many there are with them and those before.

    Sizes are not mixed: padding to the largest would not be that of the untiled run. Rows are not, so that each of them
    can be predicted by another process with the same result, down to the rounding of batches.
    """
    batch, done = [], 0
    for tile, image in inputs:
        first = batch[0][0] if batch else tile
        if len(batch) == batch_size or (first.size, first.core[0]) != (tile.size, tile.core[0]):
            yield done, batch
            batch = []
        batch.append((tile, image))
        done += 1
    if batch:
        yield done, batch


def _detect(model: nn.Module, tiles: list[Tile], inputs: list[Tensor]) -> list[Instances]:
    """What the model finds in the tiles' cores, in each tile's own pixels, with ``RaggedROIMasks``."""
    images = model.preprocess_image([{"image": image} for image in inputs])
    stride = model.proposal_generator.stride

    def select_peaks(heatmap: Tensor) -> Tensor:
        height, width = heatmap.shape[-2:]
        inside = inside_cells(images.image_sizes, height, width, stride, heatmap.device)
        return _peaks_in_cores(heatmap.masked_fill(~inside[:, None], -torch.inf), tiles, stride)

    return detect(model, images, model.orientations, select_peaks)


def _peaks_in_cores(heatmap: Tensor, tiles: list[Tile], stride: int) -> Tensor:
    """Heatmap logits (N, K, h, w) whose peaks in the tile's core stay, everything else at the lowest value.

    Peaks are found first, so that a cell at the border of a core is none when its neighbor outside is higher.
    """
    owned = torch.zeros_like(heatmap, dtype=torch.bool)
    for plane, tile in zip(owned, tiles):
        top, left = tile.reads[:2]
        y0, x0, y1, x1 = (-(-(edge - low) // stride) for edge, low in zip(tile.core, (top, left, top, left)))
        plane[:, y0:y1, x0:x1] = True
    return heatmap.masked_fill(~(_is_peak(heatmap) & owned), -torch.inf)


def _is_peak(heatmap: Tensor) -> Tensor:
    """The rule of ``center_targets.find_peaks``: the maximum of 3 x 3 cells, the first of equal ones."""
    height, width = heatmap.shape[-2:]
    padded = F.pad(heatmap, (1, 1, 1, 1), value=-torch.inf)
    around = [padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
    before, after = (functools.reduce(torch.maximum, neighbors) for neighbors in (around[:4], around[5:]))
    return (heatmap > before) & (heatmap >= after)


def _paste(
    instances: Instances, tile: Tile, network_size: tuple[int, int], image_size: tuple[int, int], post: Callable
) -> Instances:
    """Instances of a tile -> of the whole image, on the CPU, those without a pixel left out."""
    roi_masks = copy.copy(instances.pred_masks)
    y0, x0, y1, x1 = tile.reads
    reads = roi_masks.boxes.new_tensor([x0, y0, x1, y1])
    boxes = roi_masks.boxes + reads[[0, 1, 0, 1]]
    # What lies beyond the border of the image is nowhere to be read.
    limits = boxes.new_tensor([x0 or -math.inf, y0 or -math.inf, *_beyond(x1, y1, network_size)])
    # The model clips boxes to what it sees: one that reaches the border of the tile may have reached beyond.
    is_cut = (boxes[:, :2] <= limits[:2]).any(1) | (boxes[:, 2:] >= limits[2:]).any(1)
    roi_masks.boxes, roi_masks.image_size = boxes, network_size
    masks = post.paste(roi_masks, image_size)
    if post.boxes_from_masks:
        pasted_boxes = masks.get_bounding_boxes()
    else:
        pasted_boxes = Boxes(instances.pred_boxes.tensor + reads[[0, 1, 0, 1]])
        pasted_boxes.scale(image_size[1] / network_size[1], image_size[0] / network_size[0])
        pasted_boxes.clip(image_size)
    result = Instances(
        image_size,
        pred_boxes=pasted_boxes,
        pred_masks=masks,
        scores=instances.scores,
        pred_classes=instances.pred_classes,
        is_cut=is_cut,
        at_limit=instances.at_limit,
    )
    return result[torch.nonzero((masks.area() > 0) & pasted_boxes.nonempty())[:, 0]].to("cpu")


def _beyond(x1: int, y1: int, network_size: tuple[int, int]) -> tuple[float, float]:
    height, width = network_size
    return (x1 if x1 < width else math.inf), (y1 if y1 < height else math.inf)


def _cat(found: Sequence[Instances], image_size: tuple[int, int]) -> Instances:
    return Instances(
        image_size,
        pred_boxes=Boxes.cat([i.pred_boxes for i in found]),
        pred_masks=RaggedMasks.cat([i.pred_masks for i in found]),
        **{name: torch.cat([i.get(name) for i in found]) for name in ("scores", "pred_classes", "is_cut", "at_limit")},
    )
