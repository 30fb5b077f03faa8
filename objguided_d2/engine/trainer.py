"""The training loop: Detectron2's hooks around steps that can be repeated, timed and interrupted."""

import logging
import os
import weakref

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase, hooks
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventStorage, EventWriter, JSONWriter, TensorboardXWriter
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

# A process that was started for a training has its config by pickle, not by add_objguided_config: register here too.
from .. import modeling  # noqa: F401
from ..data import builtin  # noqa: F401
from ..data.loader import build_test_loader, build_train_loader
from ..data.seeding import derive_seed, seed_generators
from ..evaluation import build_evaluator, format_results, write_metrics
from ..evaluation.ground_truth import images_digest
from ..modeling import RaggedMaskRCNN, ragged_masks
from .amp import AutocastModel, StepTrainer, autocast_dtype
from .batch_norm import FreezeBatchNorm, PreciseBatchNorm
from .checkpoint import REPLACED, AtomicCheckpointer, BestModel, PeriodicCheckpointer
from .dataset_checks import is_annotated
from .distributed import broadcast_buffers, create_ddp_model
from .errors import ConfigError, EngineError, Interruption
from .evaluation_hook import EvaluationHook
from .interrupt import StopOnSignal
from .metrics_file import cut_half_line
from .optimizer import build_optimizer
from .resources import is_shortage
from .resume import settings_to_resume_with
from .schedule import ClockedPrinter, TrainingClock, build_lr_scheduler
from .training_pictures import TrainingPictures
from .weights import read_checkpoint

logger = logging.getLogger(__name__)

CHECKPOINTS_KEPT = 3
WRITE_PERIOD = 20  # iterations


class Trainer(DefaultTrainer):
    """Detectron2's DefaultTrainer with exact resume, a time budget, CPU processes and mixed precision on any device.

    - A run that was stopped and resumed has the weights of one that was not (same SEED and number of processes).
    - SOLVER.MAX_MINUTES ends it by the clock, with the final checkpoint and evaluation (``schedule.py``).
    - Ctrl-C and SIGTERM end it after the step in progress, with a checkpoint (``interrupt.py``).
    - A loss that is not finite ends it with the last good checkpoint as the last one (``amp.py``).
    - The best model by TEST.BEST_METRIC is kept (``checkpoint.py``).

    Usage::

        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
    """

    iter: int  # set by TrainerBase

    def __init__(self, cfg: CfgNode) -> None:
        TrainerBase.__init__(self)  # DefaultTrainer's own constructor cannot put a CPU model into several processes.
        self.cfg = cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.images_seen = 0
        self.interrupted = False
        self.ended_at_once = False
        self._replaces_earlier_run = False
        self._completed_iter = -1
        self._last_eval_results: dict = {}

        seed_generators(self.seed)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        ddp_model = create_ddp_model(model)
        # The data loader is built by train(), which knows the iteration to start at.
        self._trainer = StepTrainer(ddp_model, None, optimizer, autocast_dtype(cfg))
        self.stop = StopOnSignal()
        self.clock = TrainingClock(cfg.SOLVER.MAX_MINUTES)
        self.scheduler = build_lr_scheduler(cfg, optimizer, self.clock)
        self.checkpointer = AtomicCheckpointer(ddp_model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.best_model = BestModel(model, cfg.OUTPUT_DIR, cfg.TEST.BEST_METRIC)
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the newest whole checkpoint in OUTPUT_DIR if ``resume`` and there is one, else load MODEL.WEIGHTS.

        ``cfg`` then holds the settings that are in force, see :func:`.resume.settings_to_resume_with`.

        Raises:
            WeightsError: if all checkpoints are damaged, or MODEL.WEIGHTS is or has nothing that fits the model.
            ConfigError: if the checkpoint is of another model or optimizer.
        """
        # That of rank 0: others may not see its files.
        path = comm.all_gather(self.checkpointer.newest_whole_checkpoint())[0] if resume else None
        if path:
            content = read_checkpoint(path, mmap=True)
            self.cfg = settings_to_resume_with(path, content, self.cfg, self.checkpointer.model)
            self.checkpointer.load(path)
            # The checkpoint is that after an iteration.
            self.start_iter = self.iter + 1
            self._completed_iter = self.iter
            self.best_model.restore()
            return
        if resume:
            logger.warning("--resume: no checkpoint in %s, starting from MODEL.WEIGHTS", self.cfg.OUTPUT_DIR)
        elif self.checkpointer.has_earlier_run():
            folder = self.cfg.OUTPUT_DIR
            logger.warning(
                "%s holds an earlier run, which this one replaces: it is moved to %s/%s", folder, folder, REPLACED
            )
            self._replaces_earlier_run = True
        weights = self.cfg.MODEL.WEIGHTS
        self.checkpointer.load(weights, checkpointables=[])
        if weights:
            self.checkpointer.check_that_something_fits(weights)

    def train(self) -> dict:
        """Run from ``start_iter`` to ``max_iter``, the end of the time budget or an interruption.

        Returns:
            Results of the last evaluation, empty where there was none or in other processes than the main one.
        Raises:
            ConfigError: for a batch that cannot be divided among the processes.
            DivergenceError: for a loss or weights that are not finite.
            OSError: if a checkpoint finds the disk full.
        """
        logger.info("Starting training from iteration %d", self.start_iter)
        self.iter = self.start_iter
        # First, as it may refuse the settings: then an earlier run is still where it was.
        self.data_loader = self.build_train_loader(self.cfg, seed=self.seed, start_iter=self.start_iter)
        if self._replaces_earlier_run:
            self.checkpointer.set_earlier_run_aside()
        with EventStorage(self.start_iter) as self.storage:
            try:
                self.before_train()
                while self.iter < self.max_iter and not self.interrupted:
                    self.before_step()
                    self.run_step()
                    self._completed_iter = self.iter
                    self._trainer.is_updating = False
                    self.after_step()
                    self.iter += 1
            except Interruption:
                self.end_at_once(self._completed_iter)
            except BaseException as error:
                self.interrupted = True
                # Another process or one of the data loader has got the signal too, and has gone.
                if isinstance(error, RuntimeError) and self.stop.received and not self._trainer.is_updating:
                    self.end_at_once(self._completed_iter)
                else:
                    is_told = isinstance(error, EngineError) or is_shortage(error)
                    if isinstance(error, Exception) and not is_told:
                        logger.exception("Exception during training:")
                    raise
            finally:
                self.after_train()
                self.stop.restore()
                self._trainer.end_loading()
        return self._last_eval_results

    def end_at_once(self, iteration: int | None) -> None:
        """End without waiting for the other processes, which may be at another point.

        Args:
            iteration: the completed one that a checkpoint is written of; None where there is one already.
        """
        self.interrupted = self.ended_at_once = True
        if iteration is not None:
            self.iter = iteration  # The checkpoint's own count.
        self.stop.save(iteration)

    def run_step(self) -> None:
        seed_generators(derive_seed(self.seed, comm.get_rank(), self.iter))
        super().run_step()
        self.images_seen += self.cfg.SOLVER.IMS_PER_BATCH
        self.storage.put_scalar("images_seen", self.images_seen, smoothing_hint=False)

    def build_hooks(self) -> list[hooks.HookBase | None]:
        cfg = self.cfg
        return [
            self.clock,
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            self._build_freeze_batch_norm() if cfg.SOLVER.FREEZE_BN_AT < 1 else None,
            self._build_precise_bn() if cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model) else None,
            PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=CHECKPOINTS_KEPT)
            if comm.is_main_process()
            else None,
            self.stop,
            self._build_training_pictures() if cfg.VIS_PERIOD > 0 and comm.is_main_process() else None,
            # After the checkpoint, which is then there to look into a failed evaluation.
            EvaluationHook(cfg.TEST.EVAL_PERIOD, self._evaluate, self.stop) if cfg.DATASETS.TEST else None,
            # Last, to write what the others have put into the storage.
            hooks.PeriodicWriter(self.build_writers(), WRITE_PERIOD) if comm.is_main_process() else None,
        ]

    def _build_training_pictures(self) -> TrainingPictures | None:
        model = self.model.module if isinstance(self.model, DistributedDataParallel) else self.model
        return TrainingPictures(model, self.cfg.VIS_PERIOD) if isinstance(model, RaggedMaskRCNN) else None

    def _build_precise_bn(self) -> PreciseBatchNorm:
        test = self.cfg.TEST
        return PreciseBatchNorm(
            test.EVAL_PERIOD,
            self.model,
            self._build_statistics_loader(),
            test.PRECISE_BN.NUM_ITER,
            self.stop.cut_short,
        )

    def _build_freeze_batch_norm(self) -> FreezeBatchNorm:
        fraction = self.cfg.SOLVER.FREEZE_BN_AT
        if fraction < 0:
            raise ConfigError(f"SOLVER.FREEZE_BN_AT is {fraction}; it must be 0 or more, and 1 is never")
        return FreezeBatchNorm(
            fraction,
            lambda: max(self.clock.fraction, self.iter / self.cfg.SOLVER.MAX_ITER),
            self.model,
            self._build_statistics_loader,
            self.cfg.TEST.PRECISE_BN.NUM_ITER,
            self.stop.cut_short,
        )

    def _build_statistics_loader(self) -> DataLoader:
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0
        return self.build_train_loader(cfg, seed=self.seed)

    def _evaluate(self) -> dict:
        self._last_eval_results = results = self.test(self.cfg, self.model)
        if comm.is_main_process():
            self.best_model.offer(results, self.iter)
        return results

    def build_writers(self) -> list[EventWriter]:
        output_dir = self.cfg.OUTPUT_DIR
        os.makedirs(output_dir, exist_ok=True)
        printer = ClockedPrinter(self.clock) if self.clock.max_minutes > 0 else CommonMetricPrinter(self.max_iter)
        metrics = os.path.join(output_dir, "metrics.json")
        cut_half_line(metrics)
        return [printer, JSONWriter(metrics), TensorboardXWriter(output_dir)]

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, *, seed: int = 0, start_iter: int = 0) -> DataLoader:
        world_size = comm.get_world_size()
        if cfg.SOLVER.IMS_PER_BATCH < 1 or cfg.SOLVER.IMS_PER_BATCH % world_size:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} cannot be divided among {world_size} process(es); "
                f"set it to a multiple of {world_size}"
            )
        return build_train_loader(cfg, seed=seed, start_iter=start_iter)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader:
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Those of TEST.EVALUATORS; for a dataset without annotations one that writes its predictions."""
        if not is_annotated(dataset_name):
            logger.warning("%s has no annotations: its predictions are written, and there are no scores", dataset_name)
            cfg = cfg.clone()
            cfg.defrost()
            cfg.TEST.EVALUATORS = ["coco"]
        return build_evaluator(cfg, dataset_name, os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name))

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: list[DatasetEvaluator] | None = None) -> dict:
        """Evaluate on DATASETS.TEST, in the precision of the training and with the buffers of rank 0 everywhere.

        The numbers are logged with their definitions and written to OUTPUT_DIR/inference/<dataset>/metrics.json.

        Args:
            evaluators: one per dataset; by default those of TEST.EVALUATORS.

        Returns:
            ``{task: {metric: value}}``, with a level of dataset names above it if there are several; empty in other
            processes than the main one.
        """
        if isinstance(model, DistributedDataParallel):
            model = model.module
        broadcast_buffers(model)
        dtype = autocast_dtype(cfg)
        model = AutocastModel(model, dtype) if dtype else model
        names = cfg.DATASETS.TEST
        evaluators = evaluators or [cls.build_evaluator(cfg, name) for name in names]
        results = {}
        for name, evaluator in zip(names, evaluators, strict=True):
            loader = cls.build_test_loader(cfg, name)
            with ragged_masks(model):
                results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                logger.info("Results on %s:\n%s", name, format_results(results[name]))
                write_metrics(
                    os.path.join(cfg.OUTPUT_DIR, "inference", name, "metrics.json"),
                    results[name],
                    dataset=name,
                    images_digest=images_digest(name),
                    num_images=len(loader.dataset),  # type: ignore[arg-type]  # of Detectron2: sized
                    detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
                )
        if not comm.is_main_process():
            return {}
        return results if len(names) > 1 else results[names[0]]

    def state_dict(self) -> dict:
        own = {"seed": self.seed, "images_seen": self.images_seen, "config": self.cfg.dump()}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.seed = state_dict["seed"]
        # Older checkpoints do not say.
        self.images_seen = state_dict.get("images_seen", (self.iter + 1) * self.cfg.SOLVER.IMS_PER_BATCH)
