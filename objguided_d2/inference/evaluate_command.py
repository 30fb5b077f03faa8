"""``objguided evaluate``: AP and the other numbers of any model that ``objguided predict`` takes, on a dataset."""

import argparse
import sys
from collections.abc import Sequence

_EPILOG = """\
Examples:
  %(prog)s --model nuclei --dataset dsb2018_val
  %(prog)s --model mine.zip --dataset cells_val --output evaluation TEST.ORIENTATIONS 8

Numbers and predictions go to OUTPUT/inference/DATASET.
"""


_NOT_FOR_PAIRS = {
    "MODEL.WEIGHTS": "give --model",
    "MODEL.DEVICE": "give --device",
    "DATASETS.TEST": "give --dataset",
    "OUTPUT_DIR": "give --output",
}


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog, description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="bundle file, run folder, or name of a shipped model")
    parser.add_argument("--dataset", required=True, help="prepared or registered, as dsb2018_val")
    parser.add_argument("--output", default="evaluation", metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--device", help="as cpu or cuda:1 (default: CUDA where there is any)")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="pairs over the model's config")
    args = parser.parse_args(argv)
    from ..engine.errors import EngineError

    try:
        evaluate(args.model, args.dataset, args.output, device=args.device, options=args.opts)
    except (EngineError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def evaluate(
    model: str, dataset: str, output: str, *, device: str | None = None, options: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Evaluate a model by its TEST.EVALUATORS, print the numbers and write them below ``output``.

    Label maps hold what ``objguided predict`` writes by default: instances from the model's own score threshold on.

    Args:
        model: see :func:`.pretrained.load_pretrained`.
        dataset: a prepared or registered name.
        device: as ``cpu`` or ``cuda:1``; by default CUDA where there is any.
        options: pairs of keys and values over the model's config.

    Returns:
        ``{task: {metric: value}}``.
    Raises:
        ConfigError, BundleError, LoadError: if model, dataset and options do not fit, in one line.
    """
    import torch
    from detectron2.modeling import build_model

    from ..engine.dataset_checks import check_class_order
    from ..engine.resources import shortage_in_one_line
    from ..engine.setup import check_config, merge_options, refuse_pairs
    from ..engine.trainer import Trainer
    from ..engine.weights import check_same_layers
    from ..evaluation import format_results
    from .pretrained import load_pretrained

    refuse_pairs(options, _NOT_FOR_PAIRS)
    loaded = load_pretrained(model, device=device)
    cfg = loaded.cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST, cfg.OUTPUT_DIR = (dataset,), output
    cfg.TEST.LABEL_MAP_SCORE_THRESH = loaded.info.score_threshold
    # The number is of the machine that trained the model; here a scheduler may allow fewer processors than there are.
    cfg.DATALOADER.NUM_WORKERS = min(cfg.DATALOADER.NUM_WORKERS, torch.get_num_threads())
    merge_options(cfg, options)
    check_config(cfg, eval_only=True, resume=True)
    check_class_order(dataset, loaded.info.class_names, f"the model {model}")
    cfg.freeze()
    network = loaded.model
    if options:  # Some are read where the model is built.
        network = build_model(cfg).eval()
        weights = loaded.model.state_dict()
        check_same_layers(weights, network)
        # They may differ in what only the training runs.
        network.load_state_dict(weights, strict=False)
    with shortage_in_one_line(cfg, "start again"):
        results = Trainer.test(cfg, network)
    print(format_results(results))
    return results
