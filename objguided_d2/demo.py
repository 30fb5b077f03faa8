"""The whole way in a few minutes: draw a data set, train the small model on it, evaluate, look at predictions."""

import os
from pathlib import Path

from detectron2.checkpoint import DetectionCheckpointer

from .data.synthetic import write_synthetic_dataset
from .engine import Trainer, argument_parser, load_config, run
from .evaluation import format_results
from .report.prediction_sheet import draw_prediction_sheet

DATASET = "synthetic_val"
IMAGE_SIZE = (160, 160)  # small, for many steps in a few minutes
CONFIG = Path(__file__).parents[1] / "configs/synthetic/objguided_small_R_18.yaml"


def run_demo(output: Path, minutes: float, num_train: int = 200, num_val: int = 40) -> dict:
    """Everything goes into ``output``: the data, the training run and the sheet ``predictions.png``.

    Args:
        minutes: wall-clock budget of the training steps.
        num_train, num_val: images to draw.

    Returns:
        Results of the evaluation on held-out images, by task and metric.
    """
    os.environ["DETECTRON2_DATASETS"] = str(output / "datasets")
    write_synthetic_dataset(output / "datasets" / "synthetic", size=IMAGE_SIZE, num_train=num_train, num_val=num_val)
    run_dir, sheet = output / "run", output / "predictions.png"
    options = ["OUTPUT_DIR", str(run_dir), "SOLVER.MAX_MINUTES", str(minutes)]
    args = argument_parser().parse_args(["--config-file", str(CONFIG), *options])
    cfg = load_config(args)
    results = run(cfg, args)

    model = Trainer.build_model(cfg)
    DetectionCheckpointer(model).load(str(run_dir / "model_final.pth"))
    draw_prediction_sheet(cfg, model, DATASET, sheet)
    print(format_results(results))
    print(f"Held-out images, truth and predictions: {sheet}")
    print(f"Metrics: {run_dir / 'inference' / DATASET / 'metrics.json'}")
    print(f"Weights: {run_dir / 'model_final.pth'}")
    return results
