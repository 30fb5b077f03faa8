"""Rows of the mask head by itself, against the loop over ROIs."""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor

from benchmarks import mask_head as mh
from benchmarks.rows import CPU_PRECISIONS, Row, Settings, speed_row
from objguided_d2.modeling.mask_head import ObjectGuidedMaskHead
from objguided_d2.profiling.timing import take_turns


def convolution_peak(dtype: torch.dtype, seconds: float = 0.5) -> float:
    """GFLOP/s of the fastest of some 3x3 convolutions on one large map, channels last."""
    best = 0.0
    for channels, side in ((64, 256), (96, 128), (128, 128), (256, 64)):
        weight = torch.randn(channels, channels, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
        image = torch.randn(1, channels, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
        call = partial(F.conv2d, image, weight, padding=1)
        with torch.no_grad():
            once = take_turns({"": call}, 3)[""].median
            timing = take_turns({"": call}, max(3, int(seconds / once)))[""]
        best = max(best, 2 * weight.numel() * side * side / timing.median / 1e9)
    return best


def inference(settings: Settings) -> Iterator[Row]:
    """Masks at the paper's widths against the loop, fp32 and bf16, and how near convolutions come to their peak."""
    head = mh.build_mask_head(mh.WIDTHS["paper"])
    maps = mh.random_maps(mh.WIDTHS["paper"])
    peaks = {name: convolution_peak(dtype or torch.float32) for name, dtype in CPU_PRECISIONS.items()}
    for case in mh.CASES:
        boxes = case.boxes()
        calls = {"loop": lambda b=boxes: settings.opponents.masks(head, maps, b)}
        for precision, dtype in CPU_PRECISIONS.items():
            calls[precision] = _call(head, maps, boxes, dtype)
        with torch.no_grad():
            difference = _largest_difference(calls["float32"](), calls["loop"]())
            timings = take_turns(calls, settings.rounds)
            gflops = mh.least_gflops(head, boxes)
            shares = {
                precision: gflops / mh.convolution_seconds(calls[precision]) / peaks[precision]
                for precision in CPU_PRECISIONS
            }
        large = case is mh.CASES[3]
        for precision, least in (("float32", 1.0 if large else 1.3), ("bfloat16", 2.0)):
            row = speed_row(f"mask head, paper widths, inference, {case}, {precision}", timings, precision, least)
            same = difference < 1e-4
            row.met &= same
            row.target += ", same masks to 1e-4" if precision == "float32" else ""
            row.measured += f", differ by {difference:.0e}" if precision == "float32" else ""
            row.numbers |= {"gflop": gflops, "largest_difference": difference}
            yield row
        for precision, share in shares.items():
            yield Row(
                f"convolutions of it, {case}, {precision}",
                ">= 70 % of the measured peak",
                f"{100 * share:.0f} % of {peaks[precision]:.0f} GFLOP/s",
                share >= 0.7,
                {"share": share, "peak_gflops": peaks[precision]},
            )


def training(settings: Settings) -> Iterator[Row]:
    """Forward, both losses and backward at the paper's widths against the loop."""
    yield from _training_rows(settings, "paper", (1.3, 1.3, 1.3, None))


def small_widths(settings: Settings) -> Iterator[Row]:
    """The same at the small model's widths."""
    head = mh.build_mask_head(mh.WIDTHS["small"])
    maps = mh.random_maps(mh.WIDTHS["small"])
    for case, least in zip(mh.CASES, (2.0, 2.0, 2.0, 1.0)):
        boxes = case.boxes()
        calls = {
            "loop": lambda b=boxes: settings.opponents.masks(head, maps, b),
            "float32": _call(head, maps, boxes, None),
        }
        with torch.no_grad():
            timings = take_turns(calls, settings.rounds)
        yield speed_row(f"mask head, small widths, inference, {case}", timings, "float32", least)
    yield from _training_rows(settings, "small", (2.0, 2.0, 2.0, 1.0))


def _training_rows(settings: Settings, widths: str, targets: Sequence[float | None]) -> Iterator[Row]:
    head = mh.build_mask_head(mh.WIDTHS[widths])
    maps = mh.random_maps(mh.WIDTHS[widths])
    opponents = settings.opponents
    for case, least in zip(mh.CASES, targets):
        instances = mh.elliptic_targets(case.boxes())
        # In float64: in float32 some activations next to the kink of a ReLU fall on either side of it.
        wide = copy.deepcopy(head).double(), [values.double() for values in maps]
        difference = _relative_difference(
            _loss_and_gradients(_our_losses, *wide, instances), _loss_and_gradients(opponents.losses, *wide, instances)
        )
        calls = {
            "ours": partial(_loss_and_gradients, _our_losses, head, maps, instances),
            "loop": partial(_loss_and_gradients, opponents.losses, head, maps, instances),
        }
        row = speed_row(
            f"mask head, {widths} widths, training step, {case}", take_turns(calls, settings.rounds), "ours", least
        )
        row.target += ", losses and gradients to 1e-4 relative"
        row.measured += f", differ by {difference:.0e}"
        row.met &= difference < 1e-4
        row.numbers["largest_relative_difference"] = difference
        yield row


def operations(settings: Settings) -> Iterator[Row]:
    """How many tensor operations the mask head runs, however many ROIs there are."""
    head = mh.build_mask_head(mh.WIDTHS["small"])
    maps = mh.random_maps(mh.WIDTHS["small"])
    counts = []
    for number in (10, 300):
        boxes = [Boxes(mh.Case(number, 30).boxes())]
        with torch.no_grad(), mh.CountOperations() as counter:
            head(maps, boxes, [(mh.IMAGE_SIZE, mh.IMAGE_SIZE)])
        counts.append(counter.count)
    yield Row(
        "tensor operations of the mask head, 10 ROIs against 300 of like sizes",
        "within 10 %",
        f"{counts[0]} against {counts[1]}",
        abs(counts[1] / counts[0] - 1) <= 0.1,
        {"operations": counts},
    )


def straight_line(settings: Settings) -> Iterator[Row]:
    """Time against ROI area at a fixed count, and against the count at a fixed area."""
    head = mh.build_mask_head(mh.WIDTHS["paper"])
    maps = mh.random_maps(mh.WIDTHS["paper"])
    by_area = [mh.Case(40, side) for side in (24, 34, 48, 68, 96)]
    by_count = [mh.Case(count, round((40 * 64**2 / count) ** 0.5)) for count in (10, 20, 40, 80, 160)]
    cases = by_area + by_count
    boxes = {str(index): case.boxes() for index, case in enumerate(cases)}
    with torch.no_grad():
        timings = take_turns({name: _call(head, maps, b, None) for name, b in boxes.items()}, settings.rounds)
    seconds = np.array([timings[str(index)].median for index in range(len(cases))])
    area = np.array([_roi_pixels(head, boxes[str(index)]) for index in range(len(cases))])
    fit = np.polyfit(area[: len(by_area)], seconds[: len(by_area)], 1)
    residual = seconds[: len(by_area)] - np.polyval(fit, area[: len(by_area)])
    r2 = float(1 - residual.var() / seconds[: len(by_area)].var())
    counts = np.array([case.count for case in by_count])
    per_roi = float(np.polyfit(counts, seconds[len(by_area) :], 1)[0])
    yield Row(
        "time against total ROI area at a fixed count",
        "straight line (R^2 >= 0.98)",
        f"R^2 {r2:.4f}, {1e9 * fit[0]:.0f} ms a million pixels",
        r2 >= 0.98,
        {"pixels": area[: len(by_area)].tolist(), "seconds": seconds[: len(by_area)].tolist()},
    )
    yield Row(
        "time against count at a fixed area",
        "under 0.2 ms an ROI",
        f"{1000 * per_roi:+.3f} ms an ROI",
        per_roi < 2e-4,
        {"counts": counts.tolist(), "seconds": seconds[len(by_area) :].tolist()},
    )


def _call(
    head: ObjectGuidedMaskHead, maps: list[Tensor], boxes: Tensor, dtype: torch.dtype | None
) -> Callable[[], list[Tensor]]:
    maps = [values.to(dtype) for values in maps] if dtype else maps

    def call() -> list[Tensor]:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            (masks,) = head(maps, [Boxes(boxes)], [(mh.IMAGE_SIZE, mh.IMAGE_SIZE)])
        return masks.grid.split(masks.probabilities)

    return call


def _largest_difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))


def _our_losses(head: ObjectGuidedMaskHead, maps: list[Tensor], targets: Instances, seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    with EventStorage():
        return list(head.losses(maps, [targets]).values())


def _loss_and_gradients(
    losses: Callable[..., Sequence[Tensor]], head: ObjectGuidedMaskHead, maps: list[Tensor], targets: Instances
) -> list[Tensor]:
    """Both losses, and the gradients of their sum by maps and parameters, None where there is none."""
    maps = [values.detach().requires_grad_() for values in maps]
    values = losses(head, maps, targets, seed=0)
    gradients = torch.autograd.grad(sum(values), [*maps, *head.parameters()], allow_unused=True)
    return [value.detach() for value in values] + list(gradients)


def _relative_difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Largest norm of a difference as a share of the norm, of losses and of gradients that are not zero but for
    rounding, as those of biases before a norm are."""
    scale = max(float(value.norm()) for value in theirs if value is not None)
    return max(
        float((a - b).norm() / b.norm())
        for a, b in zip(ours, theirs, strict=True)
        if b is not None and float(b.norm()) > 1e-9 * scale
    )


def _roi_pixels(head: ObjectGuidedMaskHead, boxes: Tensor) -> int:
    size = ((boxes[:, 2:] - boxes[:, :2]) * head.box_expansion).long()
    return int(size.prod(1).sum())
