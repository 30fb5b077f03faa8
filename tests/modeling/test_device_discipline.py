"""On a GPU every copy to the host makes both wait, and a tensor without a device lies on the wrong one.

On a machine without a GPU nothing tells host from device, so the test knows the functions that work on the host (sizes
live there) and those where the host waits for the device. Anything else in the package that asks for a value fails.
"""

import sys
from collections import Counter

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch.overrides import TorchFunctionMode

from tests.modeling.models import disk_batch, small_cfg

FACTORIES = [
    *(torch.tensor, torch.as_tensor, torch.zeros, torch.ones, torch.empty, torch.full, torch.arange, torch.linspace),
    *(torch.eye, torch.rand, torch.randn, torch.randint, torch.randperm),
]
VALUES = {
    getattr(torch.Tensor, name)
    for name in ("item", "tolist", "cpu", "numpy", "nonzero", "unique", "__bool__", "__int__", "__float__", "__index__")
} | {torch.nonzero, torch.unique, torch.unique_consecutive, torch.equal}

# File and function -> why it may.
WORKS_ON_THE_HOST = {
    ("ragged_grid.py", "__init__"),
    ("ragged_grid.py", "split_by_area"),
    ("ragged_grid.py", "split"),
    ("ragged_masks.py", "from_atlases"),
    ("ragged_masks.py", "resize_nearest"),
    ("roi_atlas.py", "_set_up"),
    ("roi_atlas.py", "within_area"),
    ("roi_canvas.py", "__init__"),
    ("roi_canvas.py", "_lines"),
    ("roi_canvas.py", "_pack"),
    ("roi_canvas.py", "lines_of_cells"),
    ("mask_nms.py", "pairwise_iou"),
    ("point_refine.py", "loss"),
    ("point_refine.py", "most_uncertain"),
}
WAITS_FOR_THE_DEVICE = {
    # Training, once for each step: the radius that sizes the windows, the choice of ROIs where there is a limit, and
    # the sizes of ROIs that every shape follows.
    ("center_targets.py", "draw_gaussians"),
    ("mask_targets.py", "sample_rois_within_area"),
    ("roi_atlas.py", "_levels"),
    # Test time: the number of peaks above the threshold, and per image its detections ...
    ("proposal_generator.py", "propose"),
    ("roi_heads.py", "select"),
    # ... the windows of its masks, which of them have pixels, and their suppression.
    ("ragged_masks.py", "_at_input_resolution"),
    ("ragged_masks.py", "_windows"),
    ("ragged_masks.py", "_host_index"),
    ("ragged_masks.py", "get_bounding_boxes"),
    ("mask_pieces.py", "largest_pieces"),
    ("postprocess.py", "__call__"),
    ("mask_nms.py", "mask_nms"),
}
# The radius of a Gaussian, of which whole numbers must not be missed from below.
COMPUTES_IN_FLOAT64 = {("center_targets.py", "encode"), ("center_targets.py", "gaussian_radius")}


class Discipline(TorchFunctionMode):
    """Counts what functions of the package do that they should not; keys are (what, file, function)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        where, through_detectron2 = _caller()
        if where:
            if func in FACTORIES and "device" not in kwargs and not through_detectron2:
                self.found[("tensor without a device", *where)] += 1
            if (func in VALUES or _is_bool_index(func, args)) and where not in WORKS_ON_THE_HOST | WAITS_FOR_THE_DEVICE:
                self.found[("value on the host", *where)] += 1
            if isinstance(result, torch.Tensor) and result.dtype == torch.float64 and where not in COMPUTES_IN_FLOAT64:
                self.found[("float64", *where)] += 1
        return result


def _caller() -> tuple[tuple[str, str] | None, bool]:
    """File and function of modeling/ or structures/ that called, comprehensions apart, and whether by Detectron2."""
    frame, through_detectron2 = sys._getframe(2), False
    while frame:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        through_detectron2 |= "/detectron2/" in path
        if ("/objguided_d2/modeling/" in path or "/objguided_d2/structures/" in path) and not name.startswith("<"):
            return (path.rsplit("/", 1)[1], name), through_detectron2
        frame = frame.f_back
    return None, through_detectron2


def _is_bool_index(func, args) -> bool:
    if func is not torch.Tensor.__getitem__:
        return False
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    return any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in index)


def make_model(**settings) -> torch.nn.Module:
    cfg = small_cfg(num_classes=2)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.CENTER_HEAD.TOPK = 6
    cfg.MODEL.ROI_MASK_HEAD.MASK_THRESH = 0.3
    for key, value in settings.items():
        cfg.MODEL.ROI_MASK_HEAD[key] = value
    torch.manual_seed(0)
    model = build_model(cfg)
    torch.nn.init.constant_(model.proposal_generator.head.wh[-1].bias, 4.0)
    return model


@pytest.mark.parametrize(
    "settings, amp",
    [
        ({"MAX_TRAIN_ROI_PIXELS": 600, "MAX_ATLAS_PIXELS": 500}, False),
        (
            {
                "LOSS_TYPE": "bce_dice",
                "GRID": "centers",
                "PASTE_MODE": "bilinear",
                "BOX_JITTER_SHIFT": 0.1,
                "LARGEST_PIECE": True,
            },
            True,
        ),
    ],
    ids=["paper, with limits, float32", "small, bfloat16"],
)
def test_training_and_inference_ask_the_device_for_nothing_unlisted(settings, amp):
    model = make_model(**settings)
    batch = disk_batch([(48, 64), (48, 64)], [3, 2], num_classes=2)
    batch[0]["ignore_region"] = torch.zeros(48, 64, dtype=torch.bool)
    with Discipline() as discipline:
        with EventStorage(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
            losses = model(batch)
        sum(losses.values()).backward()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
            instances = model.eval()(batch)[0]["instances"]
    assert not discipline.found
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    assert instances.scores.dtype == instances.pred_boxes.tensor.dtype == torch.float32


def test_a_breach_is_found(monkeypatch):
    from objguided_d2.modeling import losses

    monkeypatch.setitem(losses.heatmap_focal_loss.__globals__, "F", _Breach())
    with Discipline() as discipline, EventStorage():
        make_model()(disk_batch([(48, 64)], [1], num_classes=2))
    found = {what for what, file, _ in discipline.found if file == "losses.py"}
    assert found == {"tensor without a device", "value on the host", "float64"}


class _Breach:
    """``torch.nn.functional`` with a function that does all that is not allowed."""

    def __getattr__(self, name):
        return getattr(torch.nn.functional, name)

    def logsigmoid(self, values):
        torch.zeros(1).item()
        return torch.nn.functional.logsigmoid(values.double())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds waiting hosts by itself, on a GPU")
def test_a_training_step_waits_for_the_device_where_it_is_listed_alone():
    model = make_model().cuda()
    batch = disk_batch([(64, 80)], [3], num_classes=2)
    with EventStorage(), pytest.warns(UserWarning) as warned:
        torch.cuda.set_sync_debug_mode("warn")
        try:
            sum(model(batch).values()).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    ours = {w.filename.rsplit("/", 1)[1] for w in warned if "/objguided_d2/" in w.filename}
    assert ours <= {file for file, _ in WAITS_FOR_THE_DEVICE}
