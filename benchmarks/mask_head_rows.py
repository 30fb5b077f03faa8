"""Rows of the mask head by itself, against the loop over ROIs."""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor

from benchmarks import loop_baselines
from benchmarks import mask_head_cases as cases
from benchmarks.arithmetic import OperationCounter, convolution_peak, convolution_seconds, min_gflops
from benchmarks.rows import BASELINE, CPU_PRECISIONS, TOLERANCE, TOLERANCE_TEXT, Row, Settings, speed_row
from objguided_d2.modeling.mask_head import ObjectGuidedMaskHead
from objguided_d2.profiling.timing import interleaved_rounds

# Of the fastest convolutions on this machine.
MIN_FRACTION_OF_PEAK = 0.7


def inference(settings: Settings) -> Iterator[Row]:
    """Masks at the paper's widths against the loop, and the fraction of their peak that convolutions reach."""
    head = cases.build_mask_head(cases.WIDTHS["paper"])
    maps = cases.random_maps(cases.WIDTHS["paper"])
    peaks = {name: convolution_peak(dtype or torch.float32) for name, dtype in CPU_PRECISIONS.items()}
    for case in cases.CASES:
        boxes = case.boxes()
        calls = {BASELINE: lambda b=boxes: loop_baselines.loop_masks(head, maps, b)}
        for precision, dtype in CPU_PRECISIONS.items():
            calls[precision] = _call(head, maps, boxes, dtype)
        with torch.no_grad():
            difference = _largest_difference(calls["float32"](), calls[BASELINE]())
            timings = interleaved_rounds(calls, settings.rounds)
            gflops = min_gflops(head, boxes)
            fractions = {
                precision: gflops / convolution_seconds(calls[precision]) / peaks[precision]
                for precision in CPU_PRECISIONS
            }
        large = case is cases.CASES[-1]
        for precision, min_speedup in (("float32", 1.0 if large else 1.3), ("bfloat16", 2.0)):
            row = speed_row(f"mask head, paper widths, inference, {case}, {precision}", timings, precision, min_speedup)
            same = difference < TOLERANCE
            row.met &= same
            row.target += f", same masks to {TOLERANCE_TEXT}" if precision == "float32" else ""
            row.measured += f", differ by {difference:.0e}" if precision == "float32" else ""
            row.numbers |= {"gflop": gflops, "largest_difference": difference}
            yield row
        for precision, fraction in fractions.items():
            yield Row(
                f"convolutions of it, {case}, {precision}",
                f">= {100 * MIN_FRACTION_OF_PEAK:.0f} % of the measured peak",
                f"{100 * fraction:.0f} % of {peaks[precision]:.0f} GFLOP/s",
                fraction >= MIN_FRACTION_OF_PEAK,
                {"fraction": fraction, "peak_gflops": peaks[precision]},
            )


def training(settings: Settings) -> Iterator[Row]:
    """Forward, both losses and backward at the paper's widths against the loop."""
    yield from _training_rows(settings, "paper", (1.3, 1.3, 1.3, None))


def small_widths(settings: Settings) -> Iterator[Row]:
    """The same at the small model's widths."""
    head = cases.build_mask_head(cases.WIDTHS["small"])
    maps = cases.random_maps(cases.WIDTHS["small"])
    for case, min_speedup in zip(cases.CASES, (2.0, 2.0, 2.0, 1.0)):
        boxes = case.boxes()
        calls = {
            BASELINE: lambda b=boxes: loop_baselines.loop_masks(head, maps, b),
            "float32": _call(head, maps, boxes, None),
        }
        with torch.no_grad():
            timings = interleaved_rounds(calls, settings.rounds)
        yield speed_row(f"mask head, small widths, inference, {case}", timings, "float32", min_speedup)
    yield from _training_rows(settings, "small", (2.0, 2.0, 2.0, 1.0))


def _training_rows(settings: Settings, widths: str, targets: Sequence[float | None]) -> Iterator[Row]:
    head = cases.build_mask_head(cases.WIDTHS[widths])
    maps = cases.random_maps(cases.WIDTHS[widths])
    for case, min_speedup in zip(cases.CASES, targets):
        instances = cases.elliptic_targets(case.boxes())
        # In float64: in float32 some activations next to the kink of a ReLU fall on either side of it.
        wide = copy.deepcopy(head).double(), [values.double() for values in maps]
        difference = _relative_difference(
            _loss_and_gradients(_our_losses, *wide, instances),
            _loss_and_gradients(loop_baselines.loop_losses, *wide, instances),
        )
        calls = {
            "ours": partial(_loss_and_gradients, _our_losses, head, maps, instances),
            BASELINE: partial(_loss_and_gradients, loop_baselines.loop_losses, head, maps, instances),
        }
        row = speed_row(
            f"mask head, {widths} widths, training step, {case}",
            interleaved_rounds(calls, settings.rounds),
            "ours",
            min_speedup,
        )
        row.target += f", losses and gradients to {TOLERANCE_TEXT} relative"
        row.measured += f", differ by {difference:.0e}"
        row.met &= difference < TOLERANCE
        row.numbers["largest_relative_difference"] = difference
        yield row


def operations(settings: Settings) -> Iterator[Row]:
    """The number of tensor operations of the mask head for few and for many ROIs."""
    head = cases.build_mask_head(cases.WIDTHS["small"])
    maps = cases.random_maps(cases.WIDTHS["small"])
    counts = []
    for number in (10, 300):
        boxes = [Boxes(cases.Case(number, 30).boxes())]
        with torch.no_grad(), OperationCounter() as counter:
            head(maps, boxes, [(cases.IMAGE_SIZE, cases.IMAGE_SIZE)])
        counts.append(counter.count)
    yield Row(
        "tensor operations of the mask head, 10 ROIs against 300 of like sizes",
        "within 10 %",
        f"{counts[0]} against {counts[1]}",
        abs(counts[1] / counts[0] - 1) <= 0.1,
        {"operations": counts},
    )


def linear_scaling(settings: Settings) -> Iterator[Row]:
    """Time against ROI area at a fixed count, and against the count at a fixed area."""
    head = cases.build_mask_head(cases.WIDTHS["paper"])
    maps = cases.random_maps(cases.WIDTHS["paper"])
    by_area = [cases.Case(40, side) for side in (24, 34, 48, 68, 96)]
    by_count = [cases.Case(count, round((40 * 64**2 / count) ** 0.5)) for count in (10, 20, 40, 80, 160)]
    all_cases = by_area + by_count
    boxes = {str(index): case.boxes() for index, case in enumerate(all_cases)}
    with torch.no_grad():
        timings = interleaved_rounds({name: _call(head, maps, b, None) for name, b in boxes.items()}, settings.rounds)
    seconds = np.array([timings[str(index)].median for index in range(len(all_cases))])
    area = np.array([_roi_pixels(head, boxes[str(index)]) for index in range(len(all_cases))])
    fit = np.polyfit(area[: len(by_area)], seconds[: len(by_area)], 1)
    residual = seconds[: len(by_area)] - np.polyval(fit, area[: len(by_area)])
    r2 = float(1 - residual.var() / seconds[: len(by_area)].var())
    counts = np.array([case.count for case in by_count])
    per_roi = float(np.polyfit(counts, seconds[len(by_area) :], 1)[0])
    yield Row(
        "time against total ROI area at a fixed count",
        "straight line (R^2 >= 0.98)",
        f"R^2 {r2:.4f}, {1e9 * fit[0]:.0f} ms per million pixels",
        r2 >= 0.98,
        {"pixels": area[: len(by_area)].tolist(), "seconds": seconds[: len(by_area)].tolist()},
    )
    yield Row(
        "time against count at a fixed area",
        "under 0.2 ms per ROI",
        f"{1000 * per_roi:+.3f} ms per ROI",
        per_roi < 2e-4,
        {"counts": counts.tolist(), "seconds": seconds[len(by_area) :].tolist()},
    )


def _call(
    head: ObjectGuidedMaskHead, maps: list[Tensor], boxes: Tensor, dtype: torch.dtype | None
) -> Callable[[], list[Tensor]]:
    maps = [values.to(dtype) for values in maps] if dtype else maps

    def call() -> list[Tensor]:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            (masks,) = head(maps, [Boxes(boxes)], [(cases.IMAGE_SIZE, cases.IMAGE_SIZE)])
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
    """Largest norm of a difference relative to the norm, of losses and of gradients that are not zero but for
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
