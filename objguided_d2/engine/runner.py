"""One training or evaluation run in one process, as ``objguided train`` starts it."""

import logging
from argparse import Namespace

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import nn

from .checkpoint import AtomicCheckpointer
from .trainer import Trainer
from .weights import load_weights

logger = logging.getLogger(__name__)


def run(cfg: CfgNode, args: Namespace) -> dict:
    """Train, or only evaluate if ``args.eval_only``, and check the results against TEST.EXPECTED_RESULTS if given.

    Returns:
        Results of the last evaluation, see :meth:`Trainer.test`.
    """
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="objguided_d2", abbrev_name="objguided")
    if cfg.MODEL.DEVICE == "cpu":
        processes, threads = comm.get_world_size(), torch.get_num_threads()
        logger.warning("Running on the CPU: %d process(es), %d thread(s) each", processes, threads)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        load_weights(model, _weights_to_evaluate(cfg, model, args.resume))
        results = Trainer.test(cfg, model)
    else:
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        results = trainer.train()
    if cfg.TEST.EXPECTED_RESULTS and comm.is_main_process():
        verify_results(cfg, results)
    return results


def _weights_to_evaluate(cfg: CfgNode, model: nn.Module, resume: bool) -> str:
    checkpointer = AtomicCheckpointer(model, cfg.OUTPUT_DIR)
    return checkpointer.get_checkpoint_file() if resume and checkpointer.has_checkpoint() else cfg.MODEL.WEIGHTS
