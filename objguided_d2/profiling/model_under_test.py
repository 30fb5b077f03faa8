"""A model in the state that it is measured in: config, weights, precision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..config import get_cfg
from ..engine.amp import AutocastModel
from ..engine.optimizer import build_optimizer
from ..engine.weights import load_weights
from .given_boxes import INDEX_KEY, GivenBoxes
from .options import PRECISIONS

# Precision -> type that autocast computes in, None for none.
DTYPES: dict[str, torch.dtype | None] = {
    name: None if name == "float32" else getattr(torch, name) for name in PRECISIONS
}


@dataclass
class ModelUnderTest:
    """A built model and how it is run.

    Attributes:
        name: shown in tables.
        cfg: its config.
        model: built from it, with weights.
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
        """A call that runs inference on every image by itself.

        Args:
            inputs: mapped images.
            given: per image (R, 4) XYXY boxes in input pixels. The model then runs its own detection in full, and its
                mask stage gets these, so that models that detect different numbers of objects do the same work there.
        """
        model = self.model.eval()
        infer = model if given is None else GivenBoxes(model, given)
        if self.dtype:
            infer = AutocastModel(infer, self.dtype)

        @torch.no_grad()
        def call() -> list:
            if given is None:
                return [infer([image]) for image in inputs]
            return [infer([{**image, INDEX_KEY: index}]) for index, image in enumerate(inputs)]

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
        """Of convolutions and matrix products for one mapped image, a multiply-add counted as two."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.model.eval()([image])
        return counter.get_total_flops() / 1e9


@dataclass(frozen=True)
class ModelSpec:
    """What a :class:`ModelUnderTest` is made from; picklable.

    Attributes:
        name: unique among the models of a benchmark.
        config_file: its config.
        weights: file with them; "" for random ones, whatever MODEL.WEIGHTS says.
        precision: one of ``PRECISIONS``.
    """

    name: str
    config_file: Path
    weights: str
    precision: str

    def load(self) -> ModelUnderTest:
        return load_model_under_test(get_cfg(self.config_file), self.name, self.weights, DTYPES[self.precision])


def load_model_under_test(
    cfg: CfgNode, name: str, weights: str | Path = "", dtype: torch.dtype | None = None, seed: int = 0
) -> ModelUnderTest:
    """Build a model, on the CPU where there is no GPU; without weights it keeps the random ones of the seed.

    Raises:
        WeightsError: see :func:`..engine.weights.load_weights`.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(weights)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(seed)
    model = build_model(cfg).eval()
    if hasattr(model, "mask_format"):
        model.mask_format = "ragged"
    if weights:
        load_weights(model, weights)
    return ModelUnderTest(name, cfg, model, dtype)
