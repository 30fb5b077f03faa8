"""Whole models side by side: inference on the same images, with the same boxes given or not, and training steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..data.mapper import InstanceMapper
from ..data.seeding import seeded
from ..engine.amp import AutocastModel
from ..engine.optimizer import build_optimizer
from ..modeling import ObjectGuidedRCNN

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Contestant:
    """A model in the state it is measured in.

    Attributes:
        name: shown in tables.
        cfg: its config.
        model: built by it, with weights.
        dtype: of autocast, None for float32.
    """

    name: str
    cfg: CfgNode
    model: nn.Module
    dtype: torch.dtype | None = None

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def parameters(self) -> float:
        """Millions."""
        return sum(p.numel() for p in self.model.parameters()) / 1e6

    def inference(self, inputs: Sequence[dict], given: Sequence[Tensor] | None = None) -> Callable[[], list]:
        """A call that infers every image by itself.

        Args:
            inputs: mapped images.
            given: per image (R, 4) XYXY boxes in input pixels. The model then runs its own detection in full, and its
                mask stage gets these, so that models that find different numbers of objects do the same work there.
        """
        model = self.model.eval()
        infer = model if given is None else GivenBoxes(model, given)
        if self.dtype:
            infer = AutocastModel(infer, self.dtype)

        @torch.no_grad()
        def call() -> list:
            if given is None:
                return [infer([image]) for image in inputs]
            return [infer([{**image, "benchmark_index": k}]) for k, image in enumerate(inputs)]

        return call

    def training_steps(self, batches: Sequence[list[dict]]) -> Callable[[], None]:
        """A call that does forward, backward and the optimizer's step on each of some mapped training batches."""
        optimizer = build_optimizer(self.cfg, self.model)

        def call() -> None:
            model = self.model.train()
            for batch in batches:
                with EventStorage(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                    losses = sum(model(batch).values())
                optimizer.zero_grad()
                losses.backward()
                optimizer.step()

        return call

    def gflops(self, image: dict) -> float:
        """Of convolutions and matrix products for one image, a multiply-add counted as two."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.model.eval()([image])
        return counter.get_total_flops() / 1e9


class GivenBoxes(nn.Module):
    """A model of Detectron2's ``GeneralizedRCNN`` family whose mask stage gets other boxes than the detected ones."""

    def __init__(self, model: nn.Module, given: Sequence[Tensor]):
        super().__init__()
        self.model, self.given = model, [boxes.to(model.device) for boxes in given]

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        model = self.model
        images = model.preprocess_image(batched_inputs)
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features)
        if hasattr(model.roi_heads, "_forward_box"):
            model.roi_heads._forward_box(features, proposals)
        else:
            proposals = [model.roi_heads.select(p) for p in proposals]
        instances = [
            given_instances(self.given[inputs["benchmark_index"]], size)
            for inputs, size in zip(batched_inputs, images.image_sizes)
        ]
        instances = model.roi_heads.forward_with_given_boxes(features, instances)
        return model._postprocess(instances, batched_inputs, images.image_sizes)


def given_instances(boxes: Tensor, image_size: tuple[int, int]) -> Instances:
    """Detections of class 0 with boxes (R, 4) and falling scores."""
    return Instances(
        image_size,
        pred_boxes=Boxes(boxes.clone()),
        scores=torch.linspace(0.99, 0.5, len(boxes), device=boxes.device),
        pred_classes=torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device),
    )


def load_contestant(
    cfg: CfgNode, name: str, weights: str | Path = "", dtype: torch.dtype | None = None, seed: int = 0
) -> Contestant:
    """Build a model; without weights it keeps the random ones of the seed."""
    cfg = cfg.clone()
    cfg.defrost()
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(seed)
    model = build_model(cfg).eval()
    if isinstance(model, ObjectGuidedRCNN):
        model.mask_format = "ragged"
    if weights:
        DetectionCheckpointer(model).load(str(weights))
    return Contestant(name, cfg, model, dtype)


def map_test_images(cfg: CfgNode, records: Sequence[dict]) -> list[dict]:
    """Images of a data set as the config sees them at test time."""
    mapper = InstanceMapper(cfg, is_train=False)
    return [mapper(record) for record in records]


def map_training_batch(cfg: CfgNode, records: Sequence[dict], seed: int = 0) -> list[dict]:
    """Training crops of images: the same for every config with the same INPUT and the same seed."""
    mapper = InstanceMapper(cfg, is_train=True)
    with seeded(seed):
        return [mapper(record) for record in records]


def random_boxes(count: int, side: float, image_size: int, seed: int = 0, spread: float = 0.25) -> Tensor:
    """(count, 4) XYXY inside a square image, each side of a box drawn from ``side`` x [1 - spread, 1 + spread]."""
    generator = torch.Generator().manual_seed(seed)
    size = side * (1 + spread * (2 * torch.rand(count, 2, generator=generator) - 1))
    low = torch.rand(count, 2, generator=generator) * (image_size - size)
    return torch.cat([low, low + size], 1)
