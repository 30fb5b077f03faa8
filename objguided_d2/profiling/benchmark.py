"""Models of any config side by side: speed of inference and training, memory, arithmetic, and where the time goes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ..config import get_cfg
from ..modeling.meta_arch import ObjectGuidedRCNN
from .memory import peak_megabytes
from .models import PRECISIONS, Contestant, load_contestant, map_test_images, map_training_batch
from .stage_timer import time_stages
from .timing import Timing, take_turns


@dataclass(frozen=True)
class Entry:
    """A model that takes part.

    Attributes:
        config_file: its config.
        weights: file with them; "" leaves those of MODEL.WEIGHTS out and takes random ones.
        precision: a key of ``models.PRECISIONS``.
    """

    config_file: Path
    weights: str
    precision: str

    @property
    def name(self) -> str:
        return f"{self.config_file.stem} {self.precision}"

    def load(self) -> Contestant:
        cfg = get_cfg(self.config_file)
        cfg.MODEL.WEIGHTS = ""
        return load_contestant(cfg, self.name, self.weights, PRECISIONS[self.precision])


@dataclass(frozen=True)
class Result:
    """Of one entry. seconds: of all images or of all training steps, a value a round; rooms: seconds of each part."""

    name: str
    parameters: float
    gflops: float
    seconds: Timing
    peak_megabytes: float
    rooms: dict[str, float]


def hold_contest(
    entries: Sequence[Entry],
    images_of: Callable[[CfgNode], list[dict]],
    *,
    given: Sequence[Tensor] | None = None,
    rounds: int = 7,
) -> list[Result]:
    """Inference of the same images by every entry, image by image, entries taking turns.

    Args:
        images_of: config -> mapped images; must be picklable.
        given: boxes (R, 4) of each image for the mask stages, see :meth:`Contestant.inference`.
    """
    contestants = [entry.load() for entry in entries]
    images = [images_of(contestant.cfg) for contestant in contestants]
    calls = {c.name: c.inference(of_c, given) for c, of_c in zip(contestants, images)}
    timings = take_turns(calls, rounds, contestants[0].device)
    return [
        Result(
            contestant.name,
            contestant.parameters,
            contestant.gflops(of_contestant[0]),
            timings[contestant.name],
            peak_megabytes(_prepare_inference, entry, images_of, given),
            time_stages(contestant.model, calls[contestant.name], rounds)
            if isinstance(contestant.model, ObjectGuidedRCNN) and given is None
            else {},
        )
        for entry, contestant, of_contestant in zip(entries, contestants, images)
    ]


def _prepare_inference(
    entry: Entry, images_of: Callable[[CfgNode], list[dict]], given: Sequence[Tensor] | None
) -> Callable[[], object]:
    def call() -> object:
        contestant = entry.load()
        return contestant.inference(images_of(contestant.cfg), given)()

    return call


def hold_training_contest(entries: Sequence[Entry], records: Sequence[dict], steps: int, rounds: int) -> list[Result]:
    """Training steps of every entry on crops of the same images, entries taking turns.

    Args:
        records: of a data set with annotations; every entry takes as many as its batches need, from the first on.
    """
    contestants = [entry.load() for entry in entries]
    calls, preparations = {}, []
    for entry, contestant in zip(entries, contestants):
        batch = contestant.cfg.SOLVER.IMS_PER_BATCH
        chosen = [records[i % len(records)] for i in range(steps * batch)]
        calls[contestant.name] = contestant.training_steps(_batches(contestant, chosen, batch))
        preparations.append((entry, chosen[:batch]))
    timings = take_turns(calls, rounds, contestants[0].device)
    return [
        Result(c.name, c.parameters, float("nan"), timings[c.name], peak_megabytes(_prepare_training, *preparation), {})
        for c, preparation in zip(contestants, preparations)
    ]


def _batches(contestant: Contestant, records: Sequence[dict], batch: int) -> list[list[dict]]:
    crops = map_training_batch(contestant.cfg, records)
    return [crops[first : first + batch] for first in range(0, len(crops), batch)]


def _prepare_training(entry: Entry, records: Sequence[dict]) -> Callable[[], object]:
    def call() -> object:
        contestant = entry.load()
        return contestant.training_steps(_batches(contestant, records, len(records)))()

    return call


@dataclass(frozen=True)
class RandomImage:
    """One square image of noise, whatever the config."""

    size: int

    def __call__(self, cfg: CfgNode) -> list[dict]:
        generator = torch.Generator().manual_seed(0)
        image = torch.randint(0, 256, (3, self.size, self.size), generator=generator, dtype=torch.uint8)
        return [{"image": image, "height": self.size, "width": self.size}]


@dataclass(frozen=True)
class RealImages:
    """Records of a data set, mapped as each config has it."""

    records: tuple[dict, ...]

    def __call__(self, cfg: CfgNode) -> list[dict]:
        return map_test_images(cfg, self.records)
