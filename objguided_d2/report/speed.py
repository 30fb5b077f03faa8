"""Parameters, arithmetic, images/s and memory of each model, measured here on the same image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.data import DatasetCatalog

from ..profiling.inputs import map_test_images
from ..profiling.memory import peak_megabytes
from ..profiling.model_under_test import load_model_under_test
from ..profiling.timing import interleaved_rounds
from .runs import Run, config_of, evaluated_weights


@dataclass(frozen=True)
class Speed:
    """Of one model, inference of one image at a time.

    Attributes:
        parameters: millions.
        gflops: of convolutions and matrix products for one image, a multiply-add counted as two.
        images_per_second: median over the repetitions, and the quartiles.
        peak_megabytes: memory of a process that infers one image, above what it had before it built the model.
    """

    parameters: float
    gflops: float
    images_per_second: tuple[float, float, float]
    peak_megabytes: float


def measure_speeds(runs: Sequence[Run], dataset_name: str, repetitions: int = 7) -> dict[str, Speed]:
    """Measure every run that has a config and weights.

    Returns:
        run name -> Speed. Runs without a model (results of other programs) are left out.
    """
    with_model = {run.name: (run, weights) for run in runs if run.config and (weights := evaluated_weights(run.path))}
    if not with_model:
        return {}
    record, _ = median_image(dataset_name)
    models = {name: load_model_under_test(run.config, name, weights) for name, (run, weights) in with_model.items()}
    images = {name: map_test_images(model.cfg, [record]) for name, model in models.items()}
    calls = {name: model.inference(images[name]) for name, model in models.items()}
    timings = interleaved_rounds(calls, repetitions, next(iter(models.values())).device)
    return {
        name: Speed(
            model.parameters,
            model.gflops(images[name][0]),
            tuple(1 / seconds for seconds in (timings[name].median, *reversed(timings[name].quartiles))),
            peak_megabytes(_infer_one, with_model[name][0].path, with_model[name][1], record),
        )
        for name, model in models.items()
    }


def _infer_one(path: Path, weights: Path, record: dict) -> Callable[[], object]:
    def call() -> object:
        model = load_model_under_test(config_of(path), path.name, weights)
        return model.inference(map_test_images(model.cfg, [record]))()

    return call


def median_image(dataset_name: str) -> tuple[dict, list[dict]]:
    """The record and the objects (no crowds) of the image of median object count among those with objects, if any."""
    records = DatasetCatalog.get(dataset_name)
    images = [(record, [a for a in record["annotations"] if not a.get("iscrowd", 0)]) for record in records]
    images.sort(key=lambda image: len(image[1]))
    with_objects = [image for image in images if image[1]] or images
    return with_objects[len(with_objects) // 2]
