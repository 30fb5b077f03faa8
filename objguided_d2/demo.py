"""The whole way in a few minutes: draw a data set, train the small model on it, evaluate, look at predictions."""

from pathlib import Path

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog, MetadataCatalog

from .data import register_objguided_instances
from .data.synthetic import write_synthetic_dataset
from .engine import Trainer, argument_parser, load_config, run
from .evaluation import format_results
from .report.prediction_sheet import draw_prediction_sheet

TRAIN, VAL = "demo_train", "demo_val"
CONFIG = Path(__file__).parents[1] / "configs/synthetic/demo_small_R_18.yaml"


def run_demo(output: Path, minutes: float, num_train: int = 200, num_val: int = 40) -> dict:
    """Everything goes into ``output``: the data, the training run and the sheet ``predictions.png``.

    Args:
        minutes: wall-clock budget of the training steps.
        num_train, num_val: images to draw.

    Returns:
        Results of the evaluation on held-out images, by task and metric.
    """
    data, run_dir, sheet = output / "data", output / "run", output / "predictions.png"
    # Nuclei alone, small images: what a model can learn from nothing in five minutes on two cores.
    write_synthetic_dataset(data, kinds=("nuclei",), size=(160, 160), num_train=num_train, num_val=num_val)
    for name, split in ((TRAIN, "train"), (VAL, "val")):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        register_objguided_instances(name, data / f"annotations/synthetic_{split}.json", data / split)
    options = ["OUTPUT_DIR", str(run_dir), "SOLVER.MAX_MINUTES", str(minutes)]
    args = argument_parser().parse_args(["--config-file", str(CONFIG), *options])
    cfg = load_config(args)
    results = run(cfg, args)

    model = Trainer.build_model(cfg)
    DetectionCheckpointer(model).load(str(run_dir / "model_final.pth"))
    draw_prediction_sheet(cfg, model, VAL, sheet)
    print(format_results(results))
    print(f"Held-out images, truth and predictions: {sheet}")
    print(f"Metrics: {run_dir / 'inference' / VAL / 'metrics.json'}")
    print(f"Weights: {run_dir / 'model_final.pth'}")
    return results
