"""Rows of whole models: against the baselines, the plain path, another layout and another precision."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import ImageList
from torch import Tensor, nn

from benchmarks import mask_head as mh
from benchmarks.rows import CPU_PRECISIONS, Row, Settings, speed_row
from objguided_d2.config import get_cfg
from objguided_d2.data.synthetic import make_image
from objguided_d2.profiling.models import Contestant, load_contestant, map_test_images, map_training_batch
from objguided_d2.profiling.timing import take_turns
from objguided_d2.utils.evenly_spaced import evenly_spaced

PAPER_MODEL = "objguided_R_50_512"
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
    records = evenly_spaced(DatasetCatalog.get(settings.dataset), settings.num_images)
    calls = {}
    for name in names:
        cfg = _config(settings, name)
        contestant = load_contestant(cfg, name, settings.runs / name / "model_final.pth")
        calls[name] = contestant.inference(map_test_images(cfg, records))
    timings = take_turns(calls, settings.rounds)
    for other in names[1:]:
        yield speed_row(
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
        contestant = load_contestant(_config(settings, name), name)
        calls[name] = contestant.inference([drawn_image()], [boxes])
    timings = take_turns(calls, settings.rounds)
    for other in names[1:]:
        what = f"inference at 512 x 512, 100 boxes given, {names[0]} against {other}"
        yield speed_row(what, timings, names[0], 1.5, other)


def plain_path(settings: Settings) -> Iterator[Row]:
    """Whole inference of the paper's model against the plain path, 100 objects."""
    contestant, image, boxes = _hundred_objects(settings)
    calls = {"plain path": lambda: settings.opponents.inference(contestant.model, image, boxes)}
    for precision, dtype in CPU_PRECISIONS.items():
        calls[precision] = replace(contestant, dtype=dtype).inference([image], [boxes])
    timings = take_turns(calls, settings.rounds)
    for precision, least in (("float32", 1.7), ("bfloat16", 3.0)):
        what = f"inference of {PAPER_MODEL}, 100 objects, {precision} against the plain path"
        yield speed_row(what, timings, precision, least, "plain path")


def layout(settings: Settings) -> Iterator[Row]:
    """Channels last, which the model takes its images in, against the contiguous layout."""
    contestant, image, boxes = _hundred_objects(settings)
    for precision, dtype in CPU_PRECISIONS.items():
        measured = replace(contestant, dtype=dtype)
        calls = {
            "contiguous": replace(measured, model=_with_contiguous_images(contestant.model)),
            "channels last": measured,
        }
        timings = take_turns({name: c.inference([image], [boxes]) for name, c in calls.items()}, settings.rounds)
        what = f"inference of {PAPER_MODEL}, 100 objects, {precision}, channels last against contiguous"
        yield speed_row(what, timings, "channels last", None, "contiguous")


def precision(settings: Settings) -> Iterator[Row]:
    """bfloat16 against float32 in training steps of our small model."""
    cfg = _config(settings, SMALL_MODELS[0])
    calls = {
        name: load_contestant(cfg, name, dtype=dtype).training_steps(_four_batches(settings, cfg))
        for name, dtype in CPU_PRECISIONS.items()
    }
    timings = take_turns(calls, settings.rounds)
    what = f"four training steps of {SMALL_MODELS[0]}, bfloat16 against float32"
    yield speed_row(what, timings, "bfloat16", None, "float32")


def training_step(settings: Settings) -> Iterator[Row]:
    """Training steps of the small models on the same crops."""
    names = SMALL_MODELS[:2]
    calls = {}
    for name in names:
        contestant = load_contestant(_config(settings, name), name)
        calls[name] = contestant.training_steps(_four_batches(settings, contestant.cfg))
    timings = take_turns(calls, max(2, settings.rounds // 2))
    what = f"four training steps on the same crops, {names[0]} against {names[1]}"
    yield speed_row(what, timings, names[0], 5.0, names[1])


def _config(settings: Settings, name: str) -> CfgNode:
    return get_cfg(settings.configs / "dsb2018" / f"{name}.yaml")


def drawn_image() -> dict:
    image = make_image("nuclei", (mh.IMAGE_SIZE, mh.IMAGE_SIZE), np.random.default_rng(0)).image
    return {"image": torch.from_numpy(image.transpose(2, 0, 1).copy()), "height": mh.IMAGE_SIZE, "width": mh.IMAGE_SIZE}


def _hundred_objects(settings: Settings) -> tuple[Contestant, dict, Tensor]:
    """The paper's model, an image, and the 100 boxes that its mask stage is given."""
    cfg = _config(settings, PAPER_MODEL)
    # Without training every cell is a center by its score; a trained model detects about as many as it masks.
    cfg.MODEL.CENTER_HEAD.TOPK = 100
    # The coordinates of the plain path.
    cfg.MODEL.ROI_MASK_HEAD.GRID = "released"
    return load_contestant(cfg, PAPER_MODEL), drawn_image(), mh.Case(100, 30).boxes()


def _with_contiguous_images(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    preprocess = model.preprocess_image

    def preprocess_image(batched_inputs: list[dict]) -> ImageList:
        images = preprocess(batched_inputs)
        images.tensor = images.tensor.contiguous()
        return images

    model.preprocess_image = preprocess_image
    return model


def _four_batches(settings: Settings, cfg: CfgNode) -> list[list[dict]]:
    """Training crops, the same for every config with the same INPUT."""
    records = [record for record in DatasetCatalog.get(settings.dataset) if record["annotations"]]
    crops = map_training_batch(cfg, evenly_spaced(records, 4 * cfg.SOLVER.IMS_PER_BATCH))
    return [crops[i::4] for i in range(4)]
