"""What a fine-tuning is asked for, what is decided before its first step, and where its files are."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

from ..engine.setup import refuse_pairs
from ..inference.image_scale import LARGEST_FACTOR
from ..utils.atomic_write import write_json
from .class_transfer import ClassTransfer
from .dataset import Split
from .errors import FinetuneError
from .object_size import NetworkScale
from .recipe import Budget

HELD_OUT_FRACTION = 0.2
_NOT_FOR_PAIRS = {
    "DATASETS.TEST": "give --held-out",
    "DATASETS.TRAIN": "give --images and --labels",
    "INPUT.INTENSITY": "images are prepared as by the model",
    "INPUT.TEST_SCALE": "give --scale",
    "MODEL.DEVICE": "give --device",
    "MODEL.ROI_HEADS.NUM_CLASSES": "the classes are those of --labels",
    "MODEL.WEIGHTS": "give --model",
    "OUTPUT_DIR": "give --output",
    "SEED": "give --seed",
    "SOLVER.MAX_ITER": "give --steps",
    "SOLVER.MAX_MINUTES": "give --minutes",
    "TEST.BEST_METRIC": "the best model is that of the best AP",
    "TEST.EVALUATORS": "the numbers are those of coco and matching",
    "TEST.EVAL_PERIOD": "evaluations are spread over the training",
}
# It is removed: no folder of anybody else's is called so.
_WORK = ".objguided_finetune"


@dataclasses.dataclass(frozen=True)
class Settings:
    """
    Attributes:
        steps: of training at most; by default ``recipe.STEPS``, or what ``minutes`` allow.
        minutes: for all together; the step at work then is the last.
        held_out_fraction: of the images, to judge by; 0 trains on all of them.
        groups: images of one group, as frames of a movie, are not divided, see ``convert_labelmaps``.
        scale: pixels of the network per pixel of an image, 1/16 to 16; by default objects get the size of the
            training's.
        pixel_size: micrometers per pixel of the images. With it, predictions scale images of another pixel size.
        from_scratch: take the model's config and classes alone and train new weights, to compare with.
        seed: of the images that are held out, and of the training.
        options: KEY, VALUE pairs over the config of the training, but for what the other attributes decide.

    Raises:
        FinetuneError: for values that make no sense.
        ConfigError: for pairs that other arguments decide.
    """

    steps: int | None = None
    minutes: float | None = None
    held_out_fraction: float = HELD_OUT_FRACTION
    groups: str | None = None
    scale: float | None = None
    pixel_size: float | None = None
    from_scratch: bool = False
    seed: int = 0
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise FinetuneError(f"steps must be 1 or more, not {self.steps}")
        for name in ("minutes", "scale", "pixel_size"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise FinetuneError(f"{name} must be a number above 0, not {value:g}")
        if self.scale is not None and not 1 / LARGEST_FACTOR <= self.scale <= LARGEST_FACTOR:
            raise FinetuneError(f"scale must be 1/{LARGEST_FACTOR} to {LARGEST_FACTOR}, not {self.scale:g}")
        if not 0 <= self.held_out_fraction < 1:
            raise FinetuneError(f"held_out_fraction must be in [0, 1), not {self.held_out_fraction:g}")
        if self.seed < 0:
            raise FinetuneError(f"seed must be 0 or more, not {self.seed}")
        refuse_pairs(self.options, _NOT_FOR_PAIRS)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The files of a fine-tuning; ``work`` is a folder that is removed when it is done."""

    bundle: Path
    report: Path
    picture: Path
    work: Path

    @classmethod
    def at(cls, output: str | os.PathLike) -> Outputs:
        """A path that ends in ``.zip`` is the bundle's, with the others beside it; any other is a folder for all.

        Raises:
            FinetuneError: for a file that is no zip archive.
        """
        path = Path(output)
        if path.suffix == ".zip":
            return cls(
                path, path.with_suffix(".json"), path.with_suffix(".png"), path.with_name(f".{path.stem}{_WORK}")
            )
        if path.exists() and not path.is_dir():
            raise FinetuneError(f"{path} is a file; give a folder, or a file that ends in .zip")
        return cls(path / "model.zip", path / "report.json", path / "before_after.png", path / _WORK)


@dataclasses.dataclass(frozen=True)
class Plan:
    """
    Attributes:
        request: model, images, labels and settings, which a resumed run must have in common.
        image_root: of the converted images.
        before: metrics of the model as it was on the held-out images; None without them or without its classes.
    """

    request: dict
    image_root: str
    split: Split
    transfer: ClassTransfer
    scale: NetworkScale
    budget: Budget
    before: dict[str, float] | None

    def write(self, path: Path) -> None:
        write_json(path, dataclasses.asdict(self), indent=2)

    @classmethod
    def read(cls, path: Path, request: dict) -> Plan:
        """The plan of an interrupted run.

        Raises:
            FinetuneError: if that was asked for something else.
        """
        values = json.loads(path.read_text(encoding="utf-8"))
        former = values["request"]
        differing = [name for name in request if former.get(name) != request[name]]
        if differing:
            changes = ", ".join(f"{name} {request[name]} (was {former.get(name)})" for name in differing)
            raise FinetuneError(f"--resume: {path.parent} is of another run: {changes}; set that back, or start anew")
        return cls(
            former,
            values["image_root"],
            Split(**_with_tuples(values["split"])),
            ClassTransfer(**_with_tuples(values["transfer"])),
            NetworkScale(**values["scale"]),
            Budget(**values["budget"]),
            values["before"],
        )


def _with_tuples(values: dict) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
