"""Parameters, arithmetic, images a second and memory of each model, measured here on the same image."""

import multiprocessing
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..data.mapper import InstanceMapper
from .runs import Run, config_of, weights_of


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

    The models take turns, image by image, so that what else the machine does hits all of them alike.

    Returns:
        run name -> Speed. Runs without a model (results of other programs) are left out.
    """
    with_model = {run.name: (run, weights) for run in runs if run.config and (weights := weights_of(run.path))}
    record = _median_record(dataset_name)
    models = {name: _load(run.config, weights) for name, (run, weights) in with_model.items()}
    inputs = {name: [InstanceMapper(run.config, is_train=False)(record)] for name, (run, _) in with_model.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for repetition in range(repetitions + 1):
        for name, model in models.items():
            elapsed = _time_once(model, inputs[name])
            if repetition:  # The first one warms up.
                seconds[name].append(elapsed)
    return {
        name: Speed(
            sum(p.numel() for p in model.parameters()) / 1e6,
            _gflops(model, inputs[name]),
            tuple(1 / np.quantile(seconds[name], [0.5, 0.75, 0.25])),
            _peak_megabytes(with_model[name][0].path, with_model[name][1], record),
        )
        for name, model in models.items()
    }


def _median_record(dataset_name: str) -> dict:
    """The image with the median number of objects."""
    records = sorted(DatasetCatalog.get(dataset_name), key=lambda record: len(record["annotations"]))
    return records[len(records) // 2]


def _load(config: CfgNode, weights: Path) -> nn.Module:
    config = config.clone()
    config.defrost()
    if not torch.cuda.is_available():
        config.MODEL.DEVICE = "cpu"
    model = build_model(config).eval()
    DetectionCheckpointer(model).load(str(weights))
    return model


def _time_once(model: nn.Module, inputs: list[dict]) -> float:
    with torch.no_grad():
        _synchronize(model)
        start = time.perf_counter()
        model(inputs)
        _synchronize(model)
    return time.perf_counter() - start


def _synchronize(model: nn.Module) -> None:
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _gflops(model: nn.Module, inputs: list[dict]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(inputs)
    return counter.get_total_flops() / 1e9


def _peak_megabytes(path: Path, weights: Path, record: dict) -> float:
    # A process of its own: the peak of one never goes down again.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_infer_and_look, (path, weights, record))


def _infer_and_look(path: Path, weights: Path, record: dict) -> float:
    config = config_of(path)
    before = _peak_of_this_process()
    model = _load(config, weights)
    inputs = [InstanceMapper(config, is_train=False)(record)]
    with torch.no_grad():
        model(inputs)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return _peak_of_this_process() - before


def _peak_of_this_process() -> float:
    """Megabytes. On Linux getrusage() would tell the peak of the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
