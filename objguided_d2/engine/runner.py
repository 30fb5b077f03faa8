"""One training or evaluation run in one process, as ``tools/train_net.py`` starts it."""

import logging
import os
from argparse import Namespace
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from ..data.builtin import register_prepared
from ..utils.atomic_write import write_text
from ..utils.full_disk import is_full_disk
from .checkpoint import AtomicCheckpointer
from .class_names import read_class_names, write_class_names
from .dataset_checks import check_class_order
from .errors import ConfigError, Interruption
from .resources import shortage_in_one_line
from .trainer import Trainer
from .weights import load_weights

logger = logging.getLogger(__name__)


def run(cfg: CfgNode, args: Namespace) -> dict:
    """Train, or only evaluate if ``args.eval_only``, and check the results against TEST.EXPECTED_RESULTS if given.

    Returns:
        Results of the last evaluation, see :meth:`Trainer.test`.
    Raises:
        EngineError: if the run cannot go on, see :mod:`.errors`.
        Interruption: once a training that a signal ended has saved what a resumed run needs.
    """
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        register_prepared(name)  # This may be another process than the one that checked the config.
    with shortage_in_one_line(cfg, "start again" if args.eval_only else "go on with --resume"):
        _set_up(cfg, args)
        results = _evaluate(cfg, args.resume) if args.eval_only else _train(cfg, args.resume)
    if cfg.TEST.EXPECTED_RESULTS and comm.is_main_process():
        verify_results(cfg, results)
    return results


def _train(cfg: CfgNode, resume: bool) -> dict:
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    _write_config(trainer.cfg)
    if comm.is_main_process():
        write_class_names(trainer.cfg)
    results = trainer.train()
    if trainer.interrupted:
        raise Interruption(trainer.stop.received, trainer.ended_at_once)
    return results


def _evaluate(cfg: CfgNode, resume: bool) -> dict:
    model = Trainer.build_model(cfg)
    newest = AtomicCheckpointer(model, cfg.OUTPUT_DIR).newest_whole_checkpoint() if resume else None
    weights = newest or cfg.MODEL.WEIGHTS
    if not weights:
        raise ConfigError(f"--eval-only --resume: no checkpoint in {cfg.OUTPUT_DIR}; give MODEL.WEIGHTS <file>")
    try:
        names = read_class_names(Path(weights).parent)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for dataset in cfg.DATASETS.TEST if names else ():
        check_class_order(dataset, names, f"the training of {weights}")
    load_weights(model, weights)
    folder = Path(cfg.OUTPUT_DIR)
    # A training's own says what its weights were trained with; resuming and predicting go by it.
    of_training = (folder / "config.yaml").is_file() and any(folder.glob("model_*.pth"))
    _write_config(cfg, keep_file=of_training)
    return Trainer.test(cfg, model)


def _set_up(cfg: CfgNode, args: Namespace) -> None:
    """Loggers and random generators. Detectron2's ``default_setup`` would also write a config that may be refused."""
    rank = comm.get_rank()
    try:
        if comm.is_main_process():
            os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
        for name, abbreviation in (("fvcore", None), ("detectron2", None), ("objguided_d2", "objguided")):
            setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name=name, abbrev_name=abbreviation)
    except OSError as error:
        if is_full_disk(error):
            raise
        raise ConfigError(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR} cannot be written ({error.strerror}: {error.filename}); give another folder"
        ) from error
    logger.info("Process %d of %d, %s", rank, comm.get_world_size(), args)
    logger.info("Environment:\n%s", collect_env_info())
    if cfg.MODEL.DEVICE == "cpu":
        processes, threads = comm.get_world_size(), torch.get_num_threads()
        logger.warning("Running on the CPU: %d process(es), %d thread(s) each", processes, threads)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if not args.eval_only:
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK


def _write_config(cfg: CfgNode, keep_file: bool = False) -> None:
    if comm.is_main_process():
        if not keep_file:
            write_text(os.path.join(cfg.OUTPUT_DIR, "config.yaml"), cfg.dump())
        logger.info("Running with full config:\n%s", cfg.dump())
