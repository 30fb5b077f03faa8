"""Rows of whole models: against baseline models, the plain path, another layout and another precision."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import ImageList
from torch import Tensor, nn

from benchmarks.mask_head_cases import HUNDRED_ROIS, IMAGE_SIZE
from benchmarks.reference.plain_model import plain_inference
from benchmarks.rows import CPU_PRECISIONS, Row, Settings, speed_row
from objguided_d2.config import get_cfg
from objguided_d2.data.synthetic import make_image
from objguided_d2.profiling.inputs import BenchmarkError, dataset_records, map_test_images, map_training_images
from objguided_d2.profiling.model_under_test import ModelUnderTest, load_model_under_test
from objguided_d2.profiling.timing import interleaved_rounds

PLAIN_PATH = "plain path"
NUM_STEPS = 4
PAPER_MODEL = "objguided_R_50_512"
SMALL_MODELS = ("objguided_small_R_18", "mask_rcnn_R_18_FPN_256", "pointrend_rcnn_R_18_FPN_256")


def check_weights(settings: Settings) -> None:
    """Check that the rows of trained models can run.

    Raises:
        BenchmarkError: if the weights of a small model are not there; the message has the command that makes them.
    """
    for name in SMALL_MODELS:
        weights = settings.runs / name / "model_final.pth"
        if not weights.is_file():
            config = settings.configs / "dsb2018" / f"{name}.yaml"
            raise BenchmarkError(
                f"{weights} does not exist; train it: python tools/train_net.py --config-file {config} "
                f"OUTPUT_DIR {weights.parent}"
            )


def small_models(settings: Settings) -> Iterator[Row]:
    """Whole inference of the trained small models on images of a dataset, each with its own detections."""
    names = SMALL_MODELS
    records = dataset_records(settings.dataset, settings.num_images)
    calls = {}
    for name in names:
        cfg = _config(settings, name)
        model = load_model_under_test(cfg, name, settings.runs / name / "model_final.pth")
        calls[name] = model.inference(map_test_images(cfg, records))
    timings = interleaved_rounds(calls, settings.rounds)
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
    boxes = HUNDRED_ROIS.boxes()
    calls = {}
    for name in names:
        model = load_model_under_test(_config(settings, name), name)
        calls[name] = model.inference([synthetic_image()], [boxes])
    timings = interleaved_rounds(calls, settings.rounds)
    for other in names[1:]:
        what = f"inference at 512 x 512, 100 boxes given, {names[0]} against {other}"
        yield speed_row(what, timings, names[0], 1.5, other)


def plain_path(settings: Settings) -> Iterator[Row]:
    """Whole inference of the paper's model against the plain path, 100 objects."""
    paper_model, image, boxes = _hundred_objects(settings)
    calls = {PLAIN_PATH: lambda: plain_inference(paper_model.model, image, boxes)}
    for precision, dtype in CPU_PRECISIONS.items():
        calls[precision] = replace(paper_model, dtype=dtype).inference([image], [boxes])
    timings = interleaved_rounds(calls, settings.rounds)
    for precision, min_speedup in (("float32", 1.7), ("bfloat16", 3.0)):
        what = f"inference of {PAPER_MODEL}, 100 objects, {precision} against the plain path"
        yield speed_row(what, timings, precision, min_speedup, PLAIN_PATH)


def layout(settings: Settings) -> Iterator[Row]:
    """Channels last, which the model takes its images in, against the contiguous layout."""
    paper_model, image, boxes = _hundred_objects(settings)
    for precision, dtype in CPU_PRECISIONS.items():
        channels_last = replace(paper_model, dtype=dtype)
        contiguous = replace(channels_last, model=_with_contiguous_images(paper_model.model))
        calls = {
            "contiguous": contiguous.inference([image], [boxes]),
            "channels last": channels_last.inference([image], [boxes]),
        }
        timings = interleaved_rounds(calls, settings.rounds)
        what = f"inference of {PAPER_MODEL}, 100 objects, {precision}, channels last against contiguous"
        yield speed_row(what, timings, "channels last", None, "contiguous")


def precision(settings: Settings) -> Iterator[Row]:
    """bfloat16 against float32 in training steps of the small object-guided model."""
    cfg = _config(settings, SMALL_MODELS[0])
    calls = {
        name: load_model_under_test(cfg, name, dtype=dtype).training_steps(_training_batches(settings, cfg))
        for name, dtype in CPU_PRECISIONS.items()
    }
    timings = interleaved_rounds(calls, settings.rounds)
    what = f"{NUM_STEPS} training steps of {SMALL_MODELS[0]}, bfloat16 against float32"
    yield speed_row(what, timings, "bfloat16", None, "float32")


def training_step(settings: Settings) -> Iterator[Row]:
    """Training steps of the small models on the same crops."""
    names = SMALL_MODELS[:2]
    calls = {}
    for name in names:
        model = load_model_under_test(_config(settings, name), name)
        calls[name] = model.training_steps(_training_batches(settings, model.cfg))
    timings = interleaved_rounds(calls, max(2, settings.rounds // 2))
    what = f"{NUM_STEPS} training steps on the same crops, {names[0]} against {names[1]}"
    yield speed_row(what, timings, names[0], 5.0, names[1])


def _config(settings: Settings, name: str) -> CfgNode:
    return get_cfg(settings.configs / "dsb2018" / f"{name}.yaml")


def synthetic_image() -> dict:
    image = make_image("nuclei", (IMAGE_SIZE, IMAGE_SIZE), np.random.default_rng(0)).image
    return {"image": torch.from_numpy(image.transpose(2, 0, 1).copy()), "height": IMAGE_SIZE, "width": IMAGE_SIZE}


def _hundred_objects(settings: Settings) -> tuple[ModelUnderTest, dict, Tensor]:
    """The paper's model, an image, and the 100 boxes that its mask stage is given."""
    cfg = _config(settings, PAPER_MODEL)
    # Without training every cell is a center by its score; a trained model detects about as many as it masks.
    cfg.MODEL.CENTER_HEAD.TOPK = HUNDRED_ROIS.count
    # The coordinates of the plain path.
    cfg.MODEL.ROI_MASK_HEAD.GRID = "released"
    return load_model_under_test(cfg, PAPER_MODEL), synthetic_image(), HUNDRED_ROIS.boxes()


def _with_contiguous_images(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    preprocess = model.preprocess_image

    def preprocess_image(batched_inputs: list[dict]) -> ImageList:
        images = preprocess(batched_inputs)
        images.tensor = images.tensor.contiguous()
        return images

    model.preprocess_image = preprocess_image
    return model


def _training_batches(settings: Settings, cfg: CfgNode) -> list[list[dict]]:
    """Training crops, the same for every config with the same INPUT."""
    crops = map_training_images(cfg, dataset_records(settings.dataset, NUM_STEPS * cfg.SOLVER.IMS_PER_BATCH))
    return [crops[i::NUM_STEPS] for i in range(NUM_STEPS)]
