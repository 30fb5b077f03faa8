"""Training on four images until a method knows them by heart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from objguided_d2.data import register_objguided_instances
from objguided_d2.data.converters.coco_writer import CocoWriter
from objguided_d2.engine import Trainer, argument_parser, load_config

SIDE = 64


def draw_discs(rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Five discs of different gray, of which the last lies between the others and touches them."""
    rows, columns = np.ogrid[:SIDE, :SIDE]
    image, labels = np.full((SIDE, SIDE), 30.0), np.zeros((SIDE, SIDE), int)
    for label, (y, x) in enumerate([(15, 15), (16, 47), (48, 17), (47, 48), (32, 31)], start=1):
        y, x, radius = y + rng.uniform(-3, 3), x + rng.uniform(-3, 3), rng.uniform(8, 12)
        inside = ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2) & (labels == 0)
        image[inside], labels[inside] = rng.uniform(90, 220), label
    image += rng.normal(size=image.shape) * 5
    return image.clip(0, 255).astype(np.uint8), [labels == label for label in range(1, 6)]


@contextmanager
def four_images(folder: Path) -> Iterator[str]:
    """The name of a dataset of four images of discs, registered meanwhile."""
    name, rng = f"four_images_{folder.parent.name}", np.random.default_rng(0)
    writer = CocoWriter(folder, ["disc"])
    for index in range(4):
        image, masks = draw_discs(rng)
        writer.add(str(index), np.repeat(image[..., None], 3, 2), masks, 1)
    writer.write_json(folder / "annotations.json")
    register_objguided_instances(name, folder / "annotations.json", folder)
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def overfit(config: str, folder: Path, iterations: int, *options: str) -> dict:
    """Train a config on four images as they are, and evaluate it on them.

    Args:
        config: by name.
        folder: for ``images`` and ``run``, with the results.
        options: KEY VALUE pairs.

    Returns:
        Results by task and metric.
    """
    with four_images(folder / "images") as dataset:
        arguments = argument_parser().parse_args(
            [
                "--config-file", config, "DATASETS.TRAIN", f"('{dataset}',)", "DATASETS.TEST", f"('{dataset}',)",
                "OUTPUT_DIR", str(folder / "run"), "MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", str(iterations),
                "SOLVER.MAX_MINUTES", "0.0", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.WARMUP_ITERS", "10",
                "SOLVER.BASE_LR", "0.002", "INPUT.SQUARE_CROP.RANGE", "[1.0, 1.0]",
                "INPUT.SQUARE_CROP.OUTPUT_SIZE", str(SIDE), "INPUT.MIN_SIZE_TEST", str(SIDE),
                "INPUT.RANDOM_FLIP", "none", "INPUT.VERTICAL_FLIP", "False", "INPUT.TRANSPOSE", "False",
                "TEST.DETECTIONS_PER_IMAGE", "100", "TEST.PRECISE_BN.NUM_ITER", "4", *options,
            ]
        )  # fmt: skip
        trainer = Trainer(load_config(arguments))
        trainer.resume_or_load(resume=False)
        return trainer.train()
