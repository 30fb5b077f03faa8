"""The whole way in a few minutes: synthetic images, the small model trained on them, evaluation, predictions to see."""

import argparse
from collections.abc import Sequence
from pathlib import Path

TRAIN, VAL = "demo_train", "demo_val"
CONFIG = "synthetic/demo_small_R_18"
# Of the config's batches of 4 images of 160 x 160: some five minutes on two cores of a recent processor.
STEPS = 650
# segm/AP50 that so many steps reach, whatever the machine: 93 to 94 with a margin for another processor's rounding.
EXPECTED_AP50 = 88.0


def run_demo(output: Path, steps: int = STEPS, num_train: int = 200, num_val: int = 40) -> dict:
    """Everything goes into ``output``: the data, the training run and the sheet ``predictions.png``.

    Args:
        steps: of training; the result does not depend on how fast the machine is.
        num_train, num_val: synthetic images.

    Returns:
        Results of the evaluation on held-out images, by task and metric.
    """
    import torch
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.utils.logger import setup_logger

    from .config import get_cfg
    from .data.builtin import register_objguided_instances
    from .data.synthetic import write_synthetic_dataset
    from .engine.class_names import write_class_names
    from .engine.progress_bar import ProgressBar
    from .engine.trainer import Trainer
    from .evaluation import format_results
    from .inference.loader import CONFIG_FILE, load_model
    from .report.prediction_sheet import draw_prediction_sheet

    data, run_dir, sheet = output / "data", output / "run", output / "predictions.png"
    # Nuclei alone, small images: what a model can learn from nothing in five minutes on two cores.
    write_synthetic_dataset(data, kinds=("nuclei",), size=(160, 160), num_train=num_train, num_val=num_val)
    for name, split in ((TRAIN, "train"), (VAL, "val")):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        register_objguided_instances(name, str(data / f"annotations/synthetic_{split}.json"), str(data / split))

    cfg = get_cfg(CONFIG)
    cfg.OUTPUT_DIR = str(run_dir)
    cfg.SOLVER.MAX_ITER = steps
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / CONFIG_FILE).write_text(cfg.dump())
    for name in ("fvcore", "detectron2", "objguided_d2"):
        setup_logger(str(run_dir), name=name, configure_stdout=False)
    print(f"Training {steps} steps on the {'CPU' if cfg.MODEL.DEVICE == 'cpu' else 'GPU'}; log: {run_dir / 'log.txt'}")
    trainer = Trainer(cfg)
    write_class_names(cfg)
    trainer.register_hooks([ProgressBar()])
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    if trainer.interrupted:
        raise KeyboardInterrupt

    loaded = load_model(run_dir, "model_final.pth")
    draw_prediction_sheet(loaded.cfg, loaded.model, VAL, sheet)
    print(format_results(results))
    print(f"Held-out images, truth and predictions: {sheet}")
    print(f"Metrics: {run_dir / 'inference' / VAL / 'metrics.json'}")
    print(f"Weights: {run_dir / 'model_final.pth'}")
    print(f"\n{verdict(results['segm']['AP50'], steps)}")
    return results


def verdict(ap50: float, steps: int) -> str:
    """What the segm/AP50 of a demo, in percent, says."""
    found = f"segm/AP50 is {ap50:.1f}"
    if steps < STEPS:
        return f"{found} after {steps} steps; the demo's own {STEPS} end above {EXPECTED_AP50:g}."
    if not ap50 >= EXPECTED_AP50:
        return f"{found}; it should be above {EXPECTED_AP50:g}: something is wrong here, see `objguided doctor`."
    return f"{found}, as it should be (above {EXPECTED_AP50:g}): the sheet has an outline on nearly every nucleus."


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the demo; returns 1 if a full one ends with worse predictions than it should."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for all files (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training (default: %(default)s)")
    args = parser.parse_args(argv)
    results = run_demo(args.output, args.steps)
    return int(args.steps >= STEPS and not results["segm"]["AP50"] >= EXPECTED_AP50)
