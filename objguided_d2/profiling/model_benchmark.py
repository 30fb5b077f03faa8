"""Models of any config side by side: speed of inference and training, memory, FLOPs, and the time of each stage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from detectron2.config import CfgNode
from torch import Tensor

from ..modeling.meta_arch import ObjectGuidedRCNN
from .inputs import map_training_images
from .memory import peak_megabytes
from .model_under_test import ModelSpec, ModelUnderTest
from .options import DEFAULT_ROUNDS
from .stage_timer import time_stages
from .timing import Timing, interleaved_rounds


@dataclass(frozen=True)
class BenchmarkResult:
    """Of one model.

    Attributes:
        name: of the model.
        parameters: millions.
        gflops: of the inference of the first image, see :meth:`ModelUnderTest.gflops`; None for training.
        seconds: of all images or of all training steps, one value per round.
        peak_megabytes: memory of a process that does the same once, above what it had before it built the model.
        stages: name -> seconds of all images; empty where they were not timed.
    """

    name: str
    parameters: float
    gflops: float | None
    seconds: Timing
    peak_megabytes: float
    stages: dict[str, float] = field(default_factory=dict)


def benchmark_inference(
    specs: Sequence[ModelSpec],
    images_for: Callable[[CfgNode], list[dict]],
    *,
    given: Sequence[Tensor] | None = None,
    rounds: int = DEFAULT_ROUNDS,
) -> list[BenchmarkResult]:
    """Inference of every model on the same images, image by image, in interleaved rounds.

    Args:
        specs: models with unique names.
        images_for: config -> mapped images; must be picklable.
        given: boxes (R, 4) of each image for the mask stages, see :meth:`ModelUnderTest.inference`.
    """
    models = [spec.load() for spec in specs]
    images = [images_for(model.cfg) for model in models]
    calls = {model.name: model.inference(inputs, given) for model, inputs in zip(models, images)}
    timings = interleaved_rounds(calls, rounds, models[0].device)
    return [
        BenchmarkResult(
            model.name,
            model.parameters,
            model.gflops(inputs[0]),
            timings[model.name],
            peak_megabytes(_prepare_inference, spec, images_for, given),
            time_stages(model.model, calls[model.name], rounds)
            if isinstance(model.model, ObjectGuidedRCNN) and given is None
            else {},
        )
        for spec, model, inputs in zip(specs, models, images)
    ]


def _prepare_inference(
    spec: ModelSpec, images_for: Callable[[CfgNode], list[dict]], given: Sequence[Tensor] | None
) -> Callable[[], object]:
    def call() -> object:
        model = spec.load()
        return model.inference(images_for(model.cfg), given)()

    return call


def benchmark_training(
    specs: Sequence[ModelSpec], records: Sequence[dict], steps: int, rounds: int = DEFAULT_ROUNDS
) -> list[BenchmarkResult]:
    """Training steps of every model on crops of the same images, in interleaved rounds.

    Args:
        specs: models with unique names.
        records: of a dataset with annotations, at least one; every model takes as many as its batches need, from the
            first on, again where they run out.
        steps: per round, of SOLVER.IMS_PER_BATCH images each.
    """
    models = [spec.load() for spec in specs]
    calls, first_batches = {}, []
    for model in models:
        batch_size = model.cfg.SOLVER.IMS_PER_BATCH
        chosen = [records[i % len(records)] for i in range(steps * batch_size)]
        calls[model.name] = model.training_steps(_batches(model, chosen, batch_size))
        first_batches.append(chosen[:batch_size])
    timings = interleaved_rounds(calls, rounds, models[0].device)
    return [
        BenchmarkResult(
            model.name, model.parameters, None, timings[model.name], peak_megabytes(_prepare_training, spec, batch)
        )
        for spec, model, batch in zip(specs, models, first_batches)
    ]


def _batches(model: ModelUnderTest, records: Sequence[dict], batch_size: int) -> list[list[dict]]:
    crops = map_training_images(model.cfg, records)
    return [crops[first : first + batch_size] for first in range(0, len(crops), batch_size)]


def _prepare_training(spec: ModelSpec, records: Sequence[dict]) -> Callable[[], object]:
    def call() -> object:
        model = spec.load()
        return model.training_steps(_batches(model, records, len(records)))()

    return call
