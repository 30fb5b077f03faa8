"""From a trained model and a few labeled images to a model of one's own."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation.testing import flatten_results_dict
from torch import nn

from ..config import CONFIG_ERRORS, config_error_reason, get_cfg
from ..data.seeding import seeded
from ..data.transforms import build_augmentation
from ..engine.checkpoint import BestModel
from ..engine.errors import Interruption
from ..engine.progress_bar import ProgressBar
from ..engine.resources import shortage_in_one_line
from ..engine.setup import with_float_values
from ..engine.weights import load_weights, read_checkpoint
from ..evaluation.coco import match_coco
from ..evaluation.ground_truth import load_ground_truth
from ..evaluation.matched_detections import MatchedDetections
from ..evaluation.matching import MatchingEvaluator
from ..evaluation.score_threshold import best_score_threshold
from ..inference.bundle import model_card, write_bundle
from ..inference.loader import CONFIG_FILE
from ..inference.pretrained import Pretrained, load_pretrained
from ..report.prediction_sheet import draw_predictions
from ..report.runs import load_run, results_file
from ..utils.atomic_write import atomic_write, write_json, write_text
from .class_transfer import build_start_model, match_classes
from .dataset import HELD_OUT, TRAIN, LabeledImages, Split, prepare_images, register_split, split_images
from .errors import FinetuneError
from .object_size import choose_scale
from .plan import Outputs, Plan, Settings
from .recipe import F1, METRICS, PATIENCE, Budget, are_new, base_config, bundle_config, with_budget
from .report import FinetuneReport
from .trainer import FinetuneTrainer

_PLAN_FILE, _START_FILE, _LOG_FILE = "plan.json", "start.pth", "log.txt"
_LOGGERS = ("objguided_d2", "detectron2", "fvcore")


def finetune(
    model: str | os.PathLike,
    images: str | os.PathLike,
    labels: str | os.PathLike,
    output: str | os.PathLike,
    *,
    resume: bool = False,
    resumable: bool = True,
    device: str | None = None,
    **settings: Any,
) -> FinetuneReport:
    """Adapt a model to labeled images and write it as a bundle, with a report and a picture; print what is done.

    From four images with objects on, some are held out: the bundle holds the model that was best on them, be it the one
    that the training began with. Fewer are all trained on, and nothing is measured.

    Args:
        model: a bundle, a run folder, a config with MODEL.WEIGHTS or the name of a shipped model.
        images, labels: see :func:`..data.converters.labelmaps.convert_labelmaps`.
        output: a file that ends in ``.zip``, or a folder.
        resume: go on with an interrupted call of the same arguments.
        resumable: leave what that needs if the call is interrupted.
        device: as ``cpu`` or ``cuda:1``; by default CUDA where there is any.
        settings: the attributes of :class:`.plan.Settings`.

    Raises:
        ValueError: for a model, data or settings that cannot work, in one line.
        EngineError: if the training cannot go on.
        Interruption: after Ctrl-C or SIGTERM; ``resume`` goes on from there.
    """
    for name, path in (("images", images), ("labels", labels)):
        if not Path(path).exists():
            raise FinetuneError(f"the {name} {path} do not exist")

    def prepare(work: Path, intensity: str) -> LabeledImages:
        return prepare_images(Path(images), Path(labels), work / "data", intensity=intensity)

    source = {"model": os.fspath(model), "images": os.fspath(images), "labels": os.fspath(labels)}
    return _run(source, prepare, Outputs.at(output), Settings(**settings), resume, device, resumable)


def finetune_coco(
    model: str | os.PathLike,
    data: LabeledImages,
    output: str | os.PathLike,
    *,
    resume: bool = False,
    device: str | None = None,
    **settings: Any,
) -> FinetuneReport:
    """As :func:`finetune`, with images and their COCO file, which need no conversion."""

    def prepare(work: Path, intensity: str) -> LabeledImages:
        return dataclasses.replace(data, intensity=intensity)

    source = {"model": os.fspath(model), "images": str(data.image_root), "labels": str(data.json_file)}
    return _run(source, prepare, Outputs.at(output), Settings(**settings), resume, device)


def _run(
    source: dict[str, str],
    prepare: Callable[[Path, str], LabeledImages],
    outputs: Outputs,
    settings: Settings,
    resume: bool,
    device: str | None,
    resumable: bool = True,
) -> FinetuneReport:
    started = time.monotonic()
    with seeded(settings.seed):  # A bundle lacks what only a training uses.
        pretrained = load_pretrained(source["model"], device=device)
    request = {**source, **dataclasses.asdict(settings), "options": list(settings.options)}
    work = outputs.work
    plan_file = work / _PLAN_FILE
    resume = resume and plan_file.is_file()
    if not resume and work.exists():
        print(f"{work} is of an earlier run and is removed")
        shutil.rmtree(work)
    with _work_folder(work, resumable), _log_to(work / _LOG_FILE):
        if resume:
            plan = Plan.read(plan_file, request)
            register_split(work, Path(plan.image_root))
            cfg = get_cfg(work / CONFIG_FILE)
            cfg.MODEL.DEVICE = pretrained.cfg.MODEL.DEVICE
            cfg.freeze()
        else:
            plan, cfg = _prepare(request, prepare, pretrained, settings, work, started)
            plan.write(plan_file)
        with shortage_in_one_line(cfg, "go on with --resume" if resumable else "start again"):
            trainer = _train(cfg, plan, resume, started)
            report = _finish(trainer, plan, pretrained, settings, outputs)
    shutil.rmtree(work)
    return report


def _prepare(
    request: dict,
    prepare: Callable[[Path, str], LabeledImages],
    pretrained: Pretrained,
    settings: Settings,
    work: Path,
    started: float,
) -> tuple[Plan, CfgNode]:
    """All before the first step: the data, the config, the weights to start from and the numbers of before."""
    info = pretrained.info
    data = prepare(work, pretrained.cfg.INPUT.INTENSITY)
    split = split_images(
        data, work, held_out_fraction=settings.held_out_fraction, seed=settings.seed, groups=settings.groups
    )
    transfer = match_classes(info.class_names, register_split(work, data.image_root))
    known = info if info.object_diameter is not None else info.with_training_sizes(pretrained.cfg)
    scale = choose_scale(pretrained.cfg, known, TRAIN, settings.scale)
    records = DatasetCatalog.get(TRAIN)
    try:
        options = with_float_values(pretrained.cfg, list(settings.options))
        base = base_config(
            pretrained.cfg,
            num_classes=len(transfer.names),
            split=split,
            scale=scale.value,
            score_threshold=info.score_threshold,
            intensity=data.intensity,
            image_sides=[max(record["height"], record["width"]) for record in records],
            from_scratch=settings.from_scratch,
            seed=settings.seed,
            device=pretrained.cfg.MODEL.DEVICE,
            output_dir=work,
            options=options,
        )
        build_augmentation(base, is_train=True)
    except CONFIG_ERRORS as error:
        raise FinetuneError(f"KEY VALUE pairs: {config_error_reason(error)}") from error
    start = build_start_model(
        base, None if settings.from_scratch else pretrained.model, transfer, info.class_names, settings.seed
    )
    with atomic_write(work / _START_FILE) as temporary, open(temporary, "wb") as file:
        torch.save({"model": start.state_dict()}, file)

    print(f"{len(split.train)} image(s), {split.num_train_objects} objects, train", end="")
    print(f"; {len(split.held_out)}, {split.num_held_out_objects} objects, are held out" if split.held_out else "")
    print(scale.reason)
    if transfer.new and not settings.from_scratch:
        names = ", ".join(transfer.new)
        print(f"Not among the model's classes: {names}; there, the last layer of its center heatmap starts anew")
    before, seconds = None, 0.0
    if not transfer.new and not settings.from_scratch:
        with shortage_in_one_line(base, "start again"):
            before, seconds = _evaluate(_tested_on(base, split), start)
        print(f"before: {_format(before)}" + ("" if split.held_out else " on the training images"))
    new_objects = are_new(before)
    if new_objects and not settings.from_scratch:
        print("These objects are new to the model: it learns them at its own full rate")
    budget = Budget.plan(
        settings.steps,
        settings.minutes,
        # The score threshold takes an evaluation at the end.
        elapsed_seconds=time.monotonic() - started + seconds,
        evaluation_seconds=seconds if split.held_out else 0.0,
    )
    cfg = with_budget(base, budget, work / _START_FILE, new_objects=new_objects, options=options)
    write_text(work / CONFIG_FILE, cfg.dump())
    return Plan(request, str(data.image_root), split, transfer, scale, budget, before if split.held_out else None), cfg


def _train(cfg: CfgNode, plan: Plan, resume: bool, started: float) -> FinetuneTrainer:
    trainer = FinetuneTrainer(cfg, plan.budget.evaluations, PATIENCE, started)
    trainer.register_hooks([ProgressBar()])
    trainer.resume_or_load(resume=resume)
    if plan.before is not None and trainer.start_iter == 0:
        trainer.best_model.offer({METRICS[name]: value for name, value in plan.before.items()}, None)
    trainer.train()
    if trainer.interrupted:
        raise Interruption(trainer.stop.received)
    return trainer


def _finish(
    trainer: FinetuneTrainer,
    plan: Plan,
    pretrained: Pretrained,
    settings: Settings,
    outputs: Outputs,
) -> FinetuneReport:
    """The best model as a bundle, with report and picture."""
    cfg, work, steps = trainer.cfg, outputs.work, trainer.iter
    history = trainer.held_out.history if trainer.held_out else []
    weights, kept_step = work / "model_final.pth", steps
    if history:
        weights = work / BestModel.FILE_NAME
        kept_step = _step_of(read_checkpoint(weights, mmap=True), plan, history)
    best, start = trainer.model, trainer.build_model(cfg)
    load_weights(best, weights)
    load_weights(start, work / _START_FILE)

    after = _best_of(history)
    score_threshold, f1 = _choose_score_threshold(cfg, best, plan)
    candidates = DatasetCatalog.get(HELD_OUT if plan.split.held_out else TRAIN)
    most = max(candidates, key=lambda record: len(record["annotations"]))
    models: dict[str, tuple[nn.Module, float]] = {"after": (best.eval(), score_threshold)}
    if plan.before is not None or not (plan.transfer.new or settings.from_scratch):
        models = {"before": (start.eval(), cfg.TEST.LABEL_MAP_SCORE_THRESH), **models}
    draw_predictions(cfg, models, [most], outputs.picture)

    if after is not None and kept_step:
        after[F1] = f1  # AP does not depend on the threshold.
    info = dataclasses.replace(pretrained.info, pixel_size=settings.pixel_size).with_training_sizes(cfg)
    info = dataclasses.replace(info, class_names=plan.transfer.names, score_threshold=score_threshold)
    ended = "steps"
    if trainer.held_out and trainer.held_out.stopped_early:
        ended = "early"
    elif trainer.clock.fraction >= 1:
        ended = "minutes"
    report = FinetuneReport(
        model=plan.request["model"],
        bundle=outputs.bundle,
        report=outputs.report,
        picture=outputs.picture,
        split=plan.split,
        classes=plan.transfer.names,
        new_classes=plan.transfer.new,
        scale=plan.scale,
        settings={
            "base_lr": cfg.SOLVER.BASE_LR,
            "batch_size": cfg.SOLVER.IMS_PER_BATCH,
            "crop": cfg.INPUT.SQUARE_CROP.OUTPUT_SIZE,
            "budget": dataclasses.asdict(plan.budget),
            **dataclasses.asdict(settings),
        },
        steps=steps,
        minutes=round((time.monotonic() - trainer.started) / 60, 2),
        ended=ended,
        before=plan.before,
        after=after,
        score_thresholds=(pretrained.info.score_threshold, score_threshold),
        kept_step=kept_step,
        history=history,
    )
    final_cfg = bundle_config(cfg, pretrained.cfg)
    card = report.card(model_card(final_cfg, best, info))
    write_bundle(final_cfg, best, info, outputs.bundle, card=card)
    write_json(outputs.report, report.to_json(), indent=2)
    return report


def _evaluate(cfg: CfgNode, model: nn.Module) -> tuple[dict[str, float], float]:
    """METRICS on the held-out images, and the seconds that this takes."""
    started = time.monotonic()
    results = flatten_results_dict(FinetuneTrainer.test(cfg, model))
    return {name: float(results[key]) for name, key in METRICS.items()}, time.monotonic() - started


def _tested_on(cfg: CfgNode, split: Split) -> CfgNode:
    """The config with the held-out images as its test set, or the training's where there are none."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = (HELD_OUT if split.held_out else TRAIN,)
    return cfg


def _choose_score_threshold(cfg: CfgNode, model: nn.Module, plan: Plan) -> tuple[float, float]:
    """The score threshold that suits the model on the held-out images, and F1 with it.

    Scores of objects that are new to a model are lower than those it was trained on. Without held-out images the
    training's tell.
    """
    cfg = _tested_on(cfg, plan.split)
    (name,) = cfg.DATASETS.TEST
    _evaluate(cfg, model)
    output = Path(cfg.OUTPUT_DIR)
    truth = load_ground_truth(name, str(results_file(output, name).parent))
    run = load_run(output, "model", name, truth)
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    matches = match_coco(truth, list(chain(*run.results.values())), "segm", limit=limit, iou_thresholds=[0.5])
    threshold = best_score_threshold(MatchedDetections.by_class(matches), cfg.TEST.LABEL_MAP_SCORE_THRESH)
    matching = MatchingEvaluator(name, truth, score_threshold=threshold)
    images = (
        run.compared_image(image_id, truth, MetadataCatalog.get(name), limit=limit, score_threshold=threshold)
        for image_id in truth.imgs
    )
    return threshold, matching.summarize([matching.measure(image) for image in images])["f150"]


def _step_of(best: dict, plan: Plan, history: list[dict[str, float]]) -> int:
    """The number of steps of the best model's file; 0 is the model as it was."""
    if plan.before is not None and plan.before["AP"] >= best["value"]:
        return 0
    # An evaluation that a crash cut off from its checkpoint is in the file alone.
    steps = [int(entry["step"]) for entry in history if entry["AP"] >= best["value"]]
    return steps[-1] if steps else best["iteration"] + 1


def _best_of(history: list[dict[str, float]]) -> dict[str, float] | None:
    """METRICS of the best model after any training."""
    if not history:
        return None
    best = max(history, key=lambda entry: entry["AP"])
    return {name: best[name] for name in METRICS}


def _format(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in metrics.items())


@contextmanager
def _work_folder(work: Path, resumable: bool) -> Iterator[None]:
    """The folder is there in the block; after an error that leaves nothing to resume, it is not."""
    outputs_are_new = not work.parent.exists()
    work.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not (resumable and (work / _PLAN_FILE).is_file()):
            shutil.rmtree(work)
            if outputs_are_new:
                with suppress(OSError):  # It holds results.
                    work.parent.rmdir()
        raise


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """What is logged in the block goes to a file alone."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.removeHandler(handler)
            logger.setLevel(level)
        handler.close()
