"""What the variable-size ROI engine has to reach, row by row: each is measured here against its opponent in one run.

Opponents are given from outside: a plain program that this package does not contain has no place in it. See
``tools/benchmark.py``.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from ..config import get_cfg
from ..data.synthetic import make_image
from ..modeling.center_head import CenterHead
from ..modeling.mask_head import ObjectGuidedMaskHead
from ..modeling.postprocess import InstancePostprocessor
from ..structures.ragged_grid import RaggedGrid
from ..structures.ragged_masks import RaggedROIMasks
from . import mask_head as mh
from .memory import peak_megabytes
from .models import (
    PRECISIONS,
    Contestant,
    given_instances,
    load_contestant,
    map_test_images,
    map_training_batch,
    random_boxes,
)
from .timing import Timing, take_turns

SIZE = mh.IMAGE_SIZE


class Opponents(Protocol):
    """The plain programs; shapes and units as in the package's own."""

    def masks(self, head: ObjectGuidedMaskHead, maps: list[Tensor], boxes: Tensor) -> list[Tensor]:
        """Probabilities (h, w) of every box of one image, by a good loop over ROIs."""

    def losses(self, head: ObjectGuidedMaskHead, maps: list[Tensor], targets: Instances, seed: int) -> Sequence[Tensor]:
        """Mask loss and refinement loss, weighted as the head's, with points drawn from the same seed."""

    def postprocess(self, masks: RaggedROIMasks, scores: Tensor, threshold: float, nms: float) -> list[dict]:
        """RLEs of the instances kept, best first, by a loop over masks as large as the image."""

    def inference(self, model: nn.Module, image: dict, boxes: Tensor) -> list[dict]:
        """RLEs of one image's given boxes by the plain path."""


@dataclass
class Row:
    """One claim.

    Attributes:
        what, target: in words.
        measured: in words, with the spread.
        met: whether the target is reached.
        numbers: what was measured, for the JSON file.
    """

    what: str
    target: str
    measured: str
    met: bool
    numbers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """Of one run of the suite.

    Attributes:
        rounds: turns that each opponent takes.
        configs: folder of config files.
        runs: run folders by config name, with the trained weights of the rows on real images.
        dataset, num_images: real images, evenly taken from a data set.
    """

    opponents: Opponents
    rounds: int
    configs: Path
    runs: Path
    dataset: str
    num_images: int


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


def mask_head_inference(settings: Settings) -> Iterator[Row]:
    """Masks at the paper's widths against the loop, fp32 and bf16, and how near convolutions come to their peak."""
    head = mh.build_mask_head(mh.WIDTHS["paper"])
    maps = mh.random_maps(mh.WIDTHS["paper"])
    peaks = {name: convolution_peak(dtype or torch.float32) for name, dtype in _CPU_PRECISIONS.items()}
    for case in mh.CASES:
        boxes = case.boxes()
        calls = {"loop": lambda b=boxes: settings.opponents.masks(head, maps, b)}
        for precision, dtype in _CPU_PRECISIONS.items():
            calls[precision] = _inference(head, maps, boxes, dtype)
        with torch.no_grad():
            difference = _largest_difference(calls["float32"](), calls["loop"]())
            timings = take_turns(calls, settings.rounds)
            gflops = mh.least_gflops(head, boxes)
            shares = {
                precision: gflops / mh.convolution_seconds(calls[precision]) / peaks[precision]
                for precision in _CPU_PRECISIONS
            }
        large = case is mh.CASES[3]
        for precision, least in (("float32", 1.0 if large else 1.3), ("bfloat16", 2.0)):
            row = _speed_row(f"mask head, paper widths, inference, {case}, {precision}", timings, precision, least)
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


def mask_head_training(settings: Settings) -> Iterator[Row]:
    """Forward, both losses and backward at the paper's widths against the loop."""
    yield from _training_rows(settings, "paper", (1.3, 1.3, 1.3, None))


def mask_head_small(settings: Settings) -> Iterator[Row]:
    """The same at the small model's widths."""
    head = mh.build_mask_head(mh.WIDTHS["small"])
    maps = mh.random_maps(mh.WIDTHS["small"])
    for case, least in zip(mh.CASES, (2.0, 2.0, 2.0, 1.0)):
        boxes = case.boxes()
        calls = {
            "loop": lambda b=boxes: settings.opponents.masks(head, maps, b),
            "float32": _inference(head, maps, boxes, None),
        }
        with torch.no_grad():
            timings = take_turns(calls, settings.rounds)
        yield _speed_row(f"mask head, small widths, inference, {case}", timings, "float32", least)
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
        row = _speed_row(
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
            head(maps, boxes, [(SIZE, SIZE)])
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
        timings = take_turns({name: _inference(head, maps, b, None) for name, b in boxes.items()}, settings.rounds)
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


def center_head(settings: Settings) -> Iterator[Row]:
    """Sizes and offsets at 100 centers against dense maps, at the paper's widths."""
    torch.manual_seed(0)
    head = CenterHead(in_channels=256, num_classes=1, conv_dim=256, wh_kernel=7, heatmap_prior=0.1)
    side = SIZE // 4
    feature = torch.rand(1, 256, side, side).contiguous(memory_format=torch.channels_last)
    cell = torch.randperm(side * side)[:100]

    def dense() -> tuple[Tensor, Tensor]:
        return tuple(branch(feature)[0].flatten(1).t()[cell] for branch in (head.wh, head.offset))

    with torch.no_grad():
        calls = {"dense": dense, "at centers": lambda: head.wh_and_offset(feature, cell)}
        difference = max(float((a - b).abs().max()) for a, b in zip(dense(), calls["at centers"]()))
        timings = take_turns(calls, settings.rounds)
    row = _speed_row("size and offset heads at 100 centers, paper widths", timings, "at centers", 3.0, "dense")
    row.target += ", equal to 1e-5"
    row.measured += f", differ by {difference:.0e}"
    row.met &= difference < 1e-5
    yield row


def postprocessing(settings: Settings) -> Iterator[Row]:
    """Paste, suppress, boxes and RLE of 300 objects on 1024 x 1024 against a plain loop; memory of 500 objects."""
    masks, scores = blob_masks(300, 40, 1024)
    threshold, nms = 0.53, 0.2
    calls = {
        "plain loop": lambda: settings.opponents.postprocess(masks, scores, threshold, nms),
        "ours": lambda: postprocess_to_rle(masks, scores, threshold, nms),
    }
    same = calls["plain loop"]() == calls["ours"]()
    row = _speed_row(
        "post-processing of 300 objects on 1024 x 1024", take_turns(calls, settings.rounds), "ours", 10.0, "plain loop"
    )
    row.target += ", same output"
    row.measured += ", same output" if same else ", OTHER OUTPUT"
    row.met &= same
    yield row
    megabytes = peak_megabytes(_large_postprocessing, 500, 2048)
    yield Row(
        "memory of post-processing, 500 objects on 2048 x 2048",
        "under 300 MB",
        f"{megabytes:.0f} MB",
        megabytes < 300,
        {"megabytes": megabytes},
    )


def blob_masks(count: int, side: int, image_size: int, seed: int = 0) -> tuple[RaggedROIMasks, Tensor]:
    """Masks as a trained head gives them, with probabilities that fall from the middle of an ROI to its edge, and
    scores; ROIs partly overlap."""
    boxes = random_boxes(count, side, image_size, seed)
    heights, widths = (boxes[:, i + 2].sub(boxes[:, i]).long() for i in (1, 0))
    grid = RaggedGrid(heights, widths, boxes.device)
    roi, y, x = grid.pixels
    distance = sum((2 * p / (n[roi] - 1) - 1) ** 2 for p, n in ((y, heights), (x, widths)))
    probabilities = torch.sigmoid(6 * (0.8 - distance))
    return RaggedROIMasks(probabilities, grid, boxes, "edges", (image_size, image_size)), torch.linspace(
        0.99, 0.3, count
    )


def postprocess_to_rle(masks: RaggedROIMasks, scores: Tensor, threshold: float, nms: float) -> list[dict]:
    """Our post-processing to the end, as for a results file."""
    instances = given_instances(masks.boxes, masks.image_size)
    instances.scores, instances.pred_masks = scores, masks
    postprocessor = InstancePostprocessor(threshold, "hough", boxes_from_masks=True, mask_nms_thresh=nms)
    return postprocessor(instances, *masks.image_size).pred_masks.to_rle()


def _large_postprocessing(count: int, image_size: int) -> Callable[[], object]:
    masks, scores = blob_masks(count, 80, image_size)
    postprocess_to_rle(*blob_masks(3, 10, 32), 0.53, 0.2)  # What PyTorch sets up once is not counted.
    return lambda: postprocess_to_rle(masks, scores, 0.53, 0.2)


SMALL_MODELS = ("objguided_small_R_18", "mask_rcnn_R_18_FPN_256", "pointrend_rcnn_R_18_FPN_256")


def check_weights(settings: Settings) -> None:
    """
    Raises:
        FileNotFoundError: if the weights of a small model are not there; the message has the command that makes them.
    """
    for name in SMALL_MODELS:
        weights = settings.runs / name / "model_final.pth"
        if not weights.is_file():
            config = settings.configs / "dsb2018" / f"{name}.yaml"
            raise FileNotFoundError(
                f"{weights} does not exist; train it: python tools/train_net.py --config-file {config} "
                f"OUTPUT_DIR {weights.parent}"
            )


def small_models(settings: Settings) -> Iterator[Row]:
    """Whole inference of the trained small models on real images, each with its own detections."""
    names = SMALL_MODELS
    records = DatasetCatalog.get(settings.dataset)
    records = [records[i] for i in np.linspace(0, len(records) - 1, settings.num_images).astype(int)]
    calls = {}
    for name in names:
        cfg = get_cfg(settings.configs / "dsb2018" / f"{name}.yaml")
        contestant = load_contestant(cfg, name, settings.runs / name / "model_final.pth")
        calls[name] = contestant.inference(map_test_images(cfg, records))
    timings = take_turns(calls, settings.rounds)
    for other in names[1:]:
        yield _speed_row(
            f"inference on {len(records)} images of {settings.dataset}, {names[0]} against {other}",
            timings,
            names[0],
            2.0,
            other,
        )


def large_models(settings: Settings) -> Iterator[Row]:
    """Whole inference of the R-50 models at 512 x 512 with the same 100 boxes given."""
    names = ("objguided_lite_R_50_512", "mask_rcnn_R_50_FPN_512", "pointrend_rcnn_R_50_FPN_512")
    boxes = mh.Case(100, 30).boxes()
    calls = {}
    for name in names:
        contestant = _untrained(settings, name)
        calls[name] = contestant.inference([_drawn_image()], [boxes])
    timings = take_turns(calls, settings.rounds)
    for other in names[1:]:
        what = f"inference at 512 x 512, 100 boxes given, {names[0]} against {other}"
        yield _speed_row(what, timings, names[0], 1.5, other)


def plain_path(settings: Settings) -> Iterator[Row]:
    """Whole inference of the paper's model against the plain path, 100 objects."""
    boxes = mh.Case(100, 30).boxes()
    image = _drawn_image()
    contestant = _untrained(settings, "objguided_R_50_512")
    calls = {"plain path": lambda: settings.opponents.inference(contestant.model, image, boxes)}
    for precision, dtype in _CPU_PRECISIONS.items():
        calls[precision] = Contestant(precision, contestant.cfg, contestant.model, dtype).inference([image], [boxes])
    timings = take_turns(calls, settings.rounds)
    for precision, least in (("float32", 1.7), ("bfloat16", 3.0)):
        what = f"inference of objguided_R_50_512, 100 objects, {precision} against the plain path"
        yield _speed_row(what, timings, precision, least, "plain path")


def training_step(settings: Settings) -> Iterator[Row]:
    """Training steps of the small models on the same crops."""
    names = ("objguided_small_R_18", "mask_rcnn_R_18_FPN_256")
    records = [record for record in DatasetCatalog.get(settings.dataset) if record["annotations"]]
    calls = {}
    for name in names:
        contestant = load_contestant(get_cfg(settings.configs / "dsb2018" / f"{name}.yaml"), name)
        batch = contestant.cfg.SOLVER.IMS_PER_BATCH
        chosen = [records[i] for i in np.linspace(0, len(records) - 1, 4 * batch).astype(int)]
        crops = map_training_batch(contestant.cfg, chosen)
        calls[name] = contestant.training_steps([crops[i::4] for i in range(4)])
    timings = take_turns(calls, max(2, settings.rounds // 2))
    what = f"four training steps on the same crops, {names[0]} against {names[1]}"
    yield _speed_row(what, timings, names[0], 5.0, names[1])


ROWS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "mask-head-inference": mask_head_inference,
    "mask-head-training": mask_head_training,
    "mask-head-small": mask_head_small,
    "operations": operations,
    "straight-line": straight_line,
    "center-head": center_head,
    "postprocessing": postprocessing,
    "small-models": small_models,
    "large-models": large_models,
    "plain-path": plain_path,
    "training-step": training_step,
}

_CPU_PRECISIONS: Mapping[str, torch.dtype | None] = {name: PRECISIONS[name] for name in ("float32", "bfloat16")}


def _untrained(settings: Settings, name: str) -> Contestant:
    cfg = get_cfg(settings.configs / "dsb2018" / f"{name}.yaml")
    cfg.MODEL.WEIGHTS = ""
    return load_contestant(cfg, name)


def _drawn_image() -> dict:
    image = make_image("nuclei", (SIZE, SIZE), np.random.default_rng(0)).image
    return {"image": torch.from_numpy(image.transpose(2, 0, 1).copy()), "height": SIZE, "width": SIZE}


def _inference(
    head: ObjectGuidedMaskHead, maps: list[Tensor], boxes: Tensor, dtype: torch.dtype | None
) -> Callable[[], list[Tensor]]:
    maps = [values.to(dtype) for values in maps] if dtype else maps

    def call() -> list[Tensor]:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            (masks,) = head(maps, [Boxes(boxes)], [(SIZE, SIZE)])
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


def _speed_row(what: str, timings: Mapping[str, Timing], ours: str, least: float | None, theirs: str = "loop") -> Row:
    ratio, low, high = timings[ours].times_faster_than(timings[theirs])
    return Row(
        what,
        f">= {least} x" if least else "no target",
        f"{ratio:.2f} x ({low:.2f} - {high:.2f}), {1000 * timings[ours].median:.0f} ms",
        least is None or ratio >= least,
        {"ratio": ratio, "quartiles": [low, high], "seconds": {n: list(t.seconds) for n, t in timings.items()}},
    )
