"""Memory over thousands of predictions and training steps, for ``make soak``; test_soak.py runs a short form.

python -m tests.engine.soak_memory --steps 2000
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase

from objguided_d2.engine import Trainer
from objguided_d2.inference.predictor import Predictor
from objguided_d2.utils.allocator import keep_freed_memory
from tests.engine.toy import register_toy_dataset, toy_cfg
from tests.inference.models import textured_image
from tests.modeling.models import narrow_cfg, peaky_model

LIMIT = 0.05  # of growth after the warm-up
SAMPLES = 200  # of the memory in a trial
SIDES = (40, 53, 64, 90, 117, 128)


def resident_megabytes() -> float:
    """MiB that this process has in memory; on Linux alone."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def growth(samples: list[float]) -> float:
    """By which fraction memory grows after the warm-up, which is the first quarter.

    Medians over the second quarter and over the last: a single sample may catch a temporary.
    """
    quarter = len(samples) // 4
    return float(np.median(samples[-quarter:]) / np.median(samples[quarter : 2 * quarter]) - 1)


def predict_again_and_again(steps: int) -> list[float]:
    """Memory in MiB while images of several sizes are predicted, whole and in tiles."""
    cfg = narrow_cfg()
    cfg.MODEL.WEIGHTS, cfg.INPUT.MIN_SIZE_TEST = "", 0
    cfg.MODEL.CENTER_HEAD.TOPK = cfg.TEST.DETECTIONS_PER_IMAGE = 50
    predictor = Predictor(cfg, peaky_model(cfg), tile=64, halo=32)
    rng = np.random.default_rng(0)
    samples, found = [], 0
    for step in range(steps):
        height, width = rng.choice(SIDES, 2)
        prediction = predictor(textured_image(height, width, seed=step % 50))
        found += len(prediction)
        if step % max(1, steps // SAMPLES) == 0:
            samples.append(resident_megabytes())
    if not found:
        raise RuntimeError("nothing was found in any image, so that no mask was made")
    return samples


class WatchMemory(HookBase):
    """Collects ``samples`` of the memory in MiB."""

    def __init__(self, period: int) -> None:
        self._period = period
        self.samples: list[float] = []

    def after_step(self) -> None:
        if self.trainer.iter % self._period == 0:
            self.samples.append(resident_megabytes())


def train_on_and_on(output: Path, data: Path, steps: int) -> list[float]:
    """Memory in MiB while a narrow model is trained on images of several sizes.

    Args:
        output: for the run.
        data: folder of the toy datasets, which are made if they are not there.
    """
    register_toy_dataset(data)
    trainer = Trainer(training_cfg(output, steps))
    watch = WatchMemory(max(1, steps // SAMPLES))
    trainer.register_hooks([watch])
    trainer.resume_or_load(resume=False)
    trainer.train()
    return watch.samples


def training_cfg(output: Path, steps: int) -> CfgNode:
    options = "SOLVER.MAX_ITER", steps, "SOLVER.CHECKPOINT_PERIOD", max(1, steps // 4), "SOLVER.IMS_PER_BATCH", 2
    cfg = toy_cfg(output, *options, "SOLVER.BASE_LR", 1e-4, "DATASETS.TEST", ())
    cfg.defrost()
    cfg.MODEL = narrow_cfg().MODEL
    cfg.MODEL.WEIGHTS = ""
    cfg.INPUT.SQUARE_CROP.ENABLED = False
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = SIDES, max(SIDES)
    cfg.freeze()
    return cfg


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of each kind (default: %(default)s)")
    args = parser.parse_args()
    keep_freed_memory()  # As the commands do.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trials = {
            "predictions": predict_again_and_again(args.steps),
            "training steps": train_on_and_on(Path(folder) / "run", Path(folder) / "data", args.steps),
        }
    failed = False
    for name, samples in trials.items():
        failed |= growth(samples) > LIMIT
        span = f"{samples[0]:.0f} to {samples[-1]:.0f} MiB"
        print(f"{args.steps} {name}: memory {span}, {growth(samples):+.1%} after the warm-up")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
