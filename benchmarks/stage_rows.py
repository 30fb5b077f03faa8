"""Rows of the stages around the mask head: sizes and offsets at centers, and post-processing."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.loop_baselines import loop_postprocess
from benchmarks.mask_head_cases import IMAGE_SIZE
from benchmarks.rows import BASELINE, Row, Settings, speed_row
from objguided_d2.modeling.center_head import CenterHead
from objguided_d2.modeling.postprocess import InstancePostprocessor
from objguided_d2.profiling.given_boxes import given_instances, random_boxes
from objguided_d2.profiling.memory import peak_megabytes
from objguided_d2.profiling.timing import interleaved_rounds
from objguided_d2.structures.ragged_grid import RaggedGrid
from objguided_d2.structures.ragged_masks import RaggedROIMasks

NUM_CENTERS = 100
CENTER_TOLERANCE_TEXT = "1e-5"
MASK_THRESH, MASK_NMS_THRESH = 0.53, 0.2
MAX_MEGABYTES = 300


def center_head(settings: Settings) -> Iterator[Row]:
    """Sizes and offsets at some centers against dense maps, at the paper's widths."""
    torch.manual_seed(0)
    head = CenterHead(in_channels=256, num_classes=1, conv_dim=256, wh_kernel=7, heatmap_prior=0.1)
    side = IMAGE_SIZE // 4
    feature = torch.rand(1, 256, side, side).contiguous(memory_format=torch.channels_last)
    cell = torch.randperm(side * side)[:NUM_CENTERS]

    def dense() -> tuple[Tensor, Tensor]:
        return tuple(branch(feature)[0].flatten(1).t()[cell] for branch in (head.wh, head.offset))

    with torch.no_grad():
        calls = {"dense": dense, "at centers": lambda: head.wh_and_offset(feature, cell)}
        difference = max(float((a - b).abs().max()) for a, b in zip(dense(), calls["at centers"]()))
        timings = interleaved_rounds(calls, settings.rounds)
    row = speed_row(
        f"size and offset heads at {NUM_CENTERS} centers, paper widths", timings, "at centers", 3.0, "dense"
    )
    row.target += f", equal to {CENTER_TOLERANCE_TEXT}"
    row.measured += f", differ by {difference:.0e}"
    row.met &= difference < float(CENTER_TOLERANCE_TEXT)
    yield row


def postprocessing(settings: Settings) -> Iterator[Row]:
    """Paste, suppress, boxes and RLE of 300 objects on 1024 x 1024 against a plain loop; memory of 500 objects."""
    masks, scores = blob_masks(300, 40, 1024)
    calls = {
        BASELINE: lambda: loop_postprocess(masks, scores, MASK_THRESH, MASK_NMS_THRESH),
        "ours": lambda: postprocess_to_rle(masks, scores),
    }
    same = calls[BASELINE]() == calls["ours"]()
    row = speed_row(
        "post-processing of 300 objects on 1024 x 1024", interleaved_rounds(calls, settings.rounds), "ours", 10.0
    )
    row.target += ", same output"
    row.measured += ", same output" if same else ", OTHER OUTPUT"
    row.met &= same
    yield row
    megabytes = peak_megabytes(_large_postprocessing, 500, 2048)
    yield Row(
        "memory of post-processing, 500 objects on 2048 x 2048",
        f"under {MAX_MEGABYTES} MB",
        f"{megabytes:.0f} MB",
        megabytes < MAX_MEGABYTES,
        {"megabytes": megabytes},
    )


def blob_masks(count: int, side: int, image_size: int, seed: int = 0) -> tuple[RaggedROIMasks, Tensor]:
    """Masks as a trained head gives them, with probabilities that fall from the center of an ROI to its edge, and
    scores; ROIs partly overlap."""
    boxes = random_boxes(count, side, image_size, seed)
    heights, widths = (boxes[:, i + 2].sub(boxes[:, i]).long() for i in (1, 0))
    grid = RaggedGrid(heights, widths, boxes.device)
    roi, y, x = grid.pixels
    distance = sum((2 * p / (n[roi] - 1) - 1) ** 2 for p, n in ((y, heights), (x, widths)))
    probabilities = torch.sigmoid(6 * (0.8 - distance))
    return RaggedROIMasks(probabilities, grid, boxes, "released", (image_size, image_size)), torch.linspace(
        0.99, 0.3, count
    )


def postprocess_to_rle(masks: RaggedROIMasks, scores: Tensor) -> list[dict]:
    """The package's post-processing to the end, as for a results file."""
    instances = given_instances(masks.boxes, masks.image_size)
    instances.scores, instances.pred_masks = scores, masks
    postprocessor = InstancePostprocessor(MASK_THRESH, "hough", boxes_from_masks=True, mask_nms_thresh=MASK_NMS_THRESH)
    return postprocessor(instances, *masks.image_size).pred_masks.to_rle()


def _large_postprocessing(count: int, image_size: int) -> Callable[[], object]:
    masks, scores = blob_masks(count, 80, image_size)
    postprocess_to_rle(*blob_masks(3, 10, 32))  # What PyTorch sets up once is not counted.
    return lambda: postprocess_to_rle(masks, scores)
