"""One training or evaluation run in one process, as ``tools/train_net.py`` starts it."""

from argparse import Namespace

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from .trainer import Trainer


def run(cfg: CfgNode, args: Namespace) -> dict:
    """Train, or only evaluate if ``args.eval_only``, and check the results against TEST.EXPECTED_RESULTS if given.

    Returns:
        Results of the last evaluation, see :meth:`Trainer.test`.
    """
    default_setup(cfg, args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        results = Trainer.test(cfg, model)
    else:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        results = trainer.train()
    if cfg.TEST.EXPECTED_RESULTS and comm.is_main_process():
        verify_results(cfg, results)
    return results
