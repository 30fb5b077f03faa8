"""Do the datasets, the model and the evaluation of a config fit together: checked before anything is built."""

import difflib
import json
from collections.abc import Collection, Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data.builtin import register_prepared
from ..evaluation import EVALUATORS
from .errors import ConfigError


def check_datasets(cfg: CfgNode, *, eval_only: bool = False) -> None:
    """Check DATASETS.TEST and, unless ``eval_only``, DATASETS.TRAIN.

    Raises:
        ConfigError: for a name that is unknown or has no readable files, nothing to train on or to evaluate, and
            classes that the model does not have, or that one dataset numbers otherwise than another.
    """
    train = [] if eval_only else list(cfg.DATASETS.TRAIN)
    test = list(cfg.DATASETS.TEST)
    if not eval_only and not train:
        raise ConfigError("DATASETS.TRAIN is empty: name a registered dataset")
    if eval_only and not test:
        raise ConfigError("DATASETS.TEST is empty: name a registered dataset")
    records = {name: read_dataset(name) for name in dict.fromkeys(train + test)}
    for name in records:
        if not records[name]:
            raise ConfigError(f"DATASETS: {name!r} has no images ({_source(name)})")
    objects = sum(not a.get("iscrowd", 0) for name in train for r in records[name] for a in r.get("annotations", ()))
    if train and not objects:
        raise ConfigError(f"DATASETS.TRAIN: there is no object to learn from in {', '.join(map(_source, train))}")
    for name, images in records.items():
        _check_classes(cfg, name, images)
    for name in train[1:]:
        if (here := _class_names(name)) != (first := _class_names(train[0])):
            raise ConfigError(
                f"DATASETS.TRAIN: {name} ({_source(name)}) has the classes {', '.join(here)}, but {train[0]} has "
                f"{', '.join(first)}; give both files the same categories in the order of their ids"
            )
    for name in test if train else ():
        check_class_order(name, _class_names(train[0]), train[0])


def check_class_order(dataset: str, expected: Sequence[str], owner: str) -> None:
    """Check that no class of a dataset has the number of another class: its numbers would be wrong in silence.

    Args:
        dataset: name of a registered dataset that has been read.
        expected: class names that its own are compared with; those that only one of the two has count for nothing.
        owner: what has them, for the message.

    Raises:
        ConfigError: if a name stands elsewhere in ``expected``, with both orders.
    """
    names = _class_names(dataset)
    if any(name in expected and name not in expected[index : index + 1] for index, name in enumerate(names)):
        raise ConfigError(
            f"DATASETS: {dataset!r} ({_source(dataset)}) has the classes {', '.join(names)}, but {owner} has "
            f"{', '.join(expected)}; give its categories ids in the same order"
        )


def read_dataset(name: str) -> list[dict]:
    """The records of a registered or prepared dataset.

    Raises:
        ConfigError: if there is no such dataset, with names that are alike, or its files cannot be read.
    """
    register_prepared(name)
    known = DatasetCatalog.list()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
        raise ConfigError(f"DATASETS: {name!r} is not registered; {hint}")
    try:
        return DatasetCatalog.get(name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"DATASETS: {error}") from error


def is_annotated(name: str) -> bool:
    """Whether the objects of a registered dataset are known; not so where its COCO file has no ``annotations`` at all.

    An empty list of annotations is an annotation: there is nothing in the images.
    """
    records = DatasetCatalog.get(name)
    if any(record.get("annotations") for record in records):
        return True
    json_file = MetadataCatalog.get(name).get("json_file")
    if not json_file:
        return any("annotations" in record for record in records)
    with open(json_file, encoding="utf-8") as file:
        return "annotations" in json.load(file)


def check_best_metric(cfg: CfgNode, annotated: Collection[str]) -> None:
    """Check that the evaluations of a training give TEST.BEST_METRIC.

    Args:
        annotated: those of DATASETS.TEST that give results at all.

    Raises:
        ConfigError: if they do not, as far as its name tells.
    """
    names, metric = list(cfg.DATASETS.TEST), cfg.TEST.BEST_METRIC
    if not annotated:
        return
    prefix, _, rest = metric.partition("/")
    if len(names) > 1:
        if prefix not in annotated or "/" not in rest:
            wanted = f"{next(iter(annotated))}/{metric if prefix not in names else rest or 'segm/AP'}"
            raise ConfigError(
                f"TEST.BEST_METRIC {metric!r} is not among the results of {len(names)} test sets, which begin with the "
                f"name of the set; set it to {wanted}"
            )
        metric = rest
    elif prefix in names:
        raise ConfigError(f"TEST.BEST_METRIC {metric!r}: with one test set its results have no name; set it to {rest}")
    task, _, value = metric.partition("/")
    evaluator = next((name for name, kind in EVALUATORS.items() if task in kind.tasks), None)
    if not value or evaluator not in cfg.TEST.EVALUATORS:
        raise ConfigError(
            f"TEST.BEST_METRIC {cfg.TEST.BEST_METRIC!r} is none of the results of TEST.EVALUATORS "
            f"{list(cfg.TEST.EVALUATORS)}; it is <task>/<metric>, as segm/AP for coco or matching/f1 for matching"
        )


def _check_classes(cfg: CfgNode, name: str, records: list[dict]) -> None:
    names = _class_names(name)
    if not names:
        return
    used = {a["category_id"] for record in records for a in record.get("annotations", ())}
    unused = [category for index, category in enumerate(names) if index not in used]
    for key in _class_keys(cfg):
        number = _value(cfg, key)
        # More classes than categories fail at the evaluation, as soon as one of them is predicted.
        if max(used, default=-1) >= number or number > len(names):
            raise ConfigError(
                f"{key} is {number}, but {name} ({_source(name)}) has {len(names)}: {', '.join(names)}"
                + (f" (no object is {' or '.join(unused)})" if used and unused else "")
                + f"; set {' and '.join(_class_keys(cfg))} to {len(names)}"
            )


def _class_keys(cfg: CfgNode) -> list[str]:
    """The keys that say how many classes the model has."""
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
        return ["MODEL.RETINANET.NUM_CLASSES"]
    keys = ["MODEL.ROI_HEADS.NUM_CLASSES"]
    if "PointRend" in cfg.MODEL.ROI_MASK_HEAD.NAME and "POINT_HEAD" in cfg.MODEL:
        keys.append("MODEL.POINT_HEAD.NUM_CLASSES")
    return keys


def _value(cfg: CfgNode, key: str) -> int:
    node = cfg
    for part in key.split("."):
        node = node[part]
    return node


def _class_names(name: str) -> list[str]:
    return list(MetadataCatalog.get(name).get("thing_classes", ()))


def _source(name: str) -> str:
    return MetadataCatalog.get(name).get("json_file", name)
