"""What does not fit together is said before anything is built."""

import json
import shutil

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from objguided_d2 import get_cfg
from objguided_d2.data import register_objguided_instances
from objguided_d2.engine import ConfigError, Trainer
from objguided_d2.engine.dataset_checks import check_best_metric, check_datasets, is_annotated
from tests.engine.toy import toy_cfg


@pytest.fixture
def register(toy_data, tmp_path):
    """Registers a copy of toy_train with a changed annotation file."""
    names = []

    def make(name: str, change) -> str:
        folder = tmp_path / name
        shutil.copytree(toy_data / "toy_train", folder)
        content = json.loads((folder / "annotations.json").read_text())
        change(content)
        (folder / "annotations.json").write_text(json.dumps(content))
        register_objguided_instances(name, str(folder / "annotations.json"), str(folder))
        names.append(name)
        return name

    yield make
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def cfg_for(train=(), test=(), classes=1, **others):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.MODEL.ROI_HEADS.NUM_CLASSES = tuple(train), tuple(test), classes
    cfg.merge_from_list([item for key, value in others.items() for item in (key.replace("__", "."), value)])
    return cfg


def second_category(content):
    content["categories"].append({"id": 2, "name": "debris"})
    content["annotations"][0]["category_id"] = 2


def grouping_category(content):
    content["categories"].insert(0, {"id": 0, "name": "shapes", "supercategory": "none"})


def test_fitting_sets_pass(toy_data):
    check_datasets(cfg_for(["toy_train"], ["toy_val"]))


@pytest.mark.parametrize("architecture", ["GeneralizedRCNN", "ObjectGuidedRCNN", "PointRend", "RetinaNet"])
def test_more_categories_than_the_model_has_are_named(register, architecture):
    name = register("two_train", second_category)
    options, key = {}, "MODEL.ROI_HEADS.NUM_CLASSES"
    if architecture == "PointRend":
        options["MODEL__ROI_MASK_HEAD__NAME"] = "PointRendMaskHead"
        options["MODEL__POINT_HEAD__NUM_CLASSES"] = 1
    elif architecture == "RetinaNet":
        options = {"MODEL__META_ARCHITECTURE": "RetinaNet", "MODEL__RETINANET__NUM_CLASSES": 1}
        key = "MODEL.RETINANET.NUM_CLASSES"
    else:
        options["MODEL__META_ARCHITECTURE"] = architecture
    with pytest.raises(ConfigError, match=rf"{key} is 1, but two_train \(.*json\) has 2: rectangle, debris; set {key}"):
        check_datasets(cfg_for([name], **options))


def test_the_point_head_has_its_own_number(register):
    name = register("two_train", second_category)
    options = {"MODEL__ROI_MASK_HEAD__NAME": "PointRendMaskHead", "MODEL__POINT_HEAD__NUM_CLASSES": 1}
    with pytest.raises(ConfigError, match="MODEL.POINT_HEAD.NUM_CLASSES is 1, .*rectangle, debris; set .* and .* to 2"):
        check_datasets(cfg_for([name], classes=2, **options))
    options["MODEL__POINT_HEAD__NUM_CLASSES"] = 2
    check_datasets(cfg_for([name], classes=2, **options))


def test_sets_that_number_their_classes_otherwise_are_told(register):
    def swapped(content):
        second_category(content)
        content["categories"][0]["name"], content["categories"][1]["name"] = "debris", "rectangle"

    def renamed(content):
        second_category(content)
        content["categories"][1]["name"] = "dirt"

    one, other = register("two_train", second_category), register("swapped_train", swapped)
    message = r"swapped_train.* has the classes debris, rectangle, but two_train has rectangle, debris; give"
    for train, test in (([one, other], []), ([one], [other])):
        with pytest.raises(ConfigError, match=message):
            check_datasets(cfg_for(train, test, classes=2))
    # Names of one test set may be in other words, which Detectron2 does not take for training.
    words = register("renamed_train", renamed)
    check_datasets(cfg_for([one], [words], classes=2))
    with pytest.raises(ConfigError, match="renamed_train .*dirt, but two_train has"):
        check_datasets(cfg_for([one, words], classes=2))


def test_a_grouping_category_in_front_shifts_the_classes(register):
    name = register("roboflow_train", grouping_category)
    with pytest.raises(ConfigError, match=r"NUM_CLASSES is 1.*has 2: shapes, rectangle \(no object is shapes\)"):
        check_datasets(cfg_for([name]))
    check_datasets(cfg_for([name], classes=2))


def test_categories_without_objects_that_need_no_class_pass(register):
    check_datasets(
        cfg_for([register("more_train", lambda content: content["categories"].append({"id": 9, "name": "x"}))])
    )


def test_fewer_categories_than_the_model_has_are_refused(toy_data):
    with pytest.raises(ConfigError, match="NUM_CLASSES is 80, but toy_val .* has 1: rectangle; set .* to 1"):
        check_datasets(cfg_for(test=["toy_val"], classes=80), eval_only=True)


def test_empty_sets_are_refused(register):
    nothing = register("nothing_train", lambda content: content["annotations"].clear())
    with pytest.raises(ConfigError, match="DATASETS.TRAIN: there is no object to learn from in .*nothing_train"):
        check_datasets(cfg_for([nothing]))
    check_datasets(cfg_for(["toy_train"], [nothing]))

    def empty(content):
        content["images"].clear()
        content["annotations"].clear()

    with pytest.raises(ConfigError, match="'empty_train'.*'images' is empty"):
        check_datasets(cfg_for([register("empty_train", empty)]))
    with pytest.raises(ConfigError, match="DATASETS.TRAIN is empty"):
        check_datasets(cfg_for())
    with pytest.raises(ConfigError, match="DATASETS.TEST is empty"):
        check_datasets(cfg_for(["toy_train"]), eval_only=True)


@pytest.mark.parametrize(
    ("names", "metric", "message"),
    [
        (["a"], "segm/AP", None),
        (["a"], "voc_seg/AP50", None),
        ([], "anything", None),
        (["a", "b"], "b/segm/AP", None),
        (["a", "b"], "segm/AP", "'segm/AP' is not among the results of 2 test sets, .*; set it to a/segm/AP"),
        (["a"], "a/segm/AP", "with one test set its results have no name; set it to segm/AP"),
        (["a"], "AP", "'AP' is none of the results"),
        (["a"], "matching/f1", r"'matching/f1' is none of the results of TEST.EVALUATORS \['coco', 'voc2010'\]"),
        (["a", "b"], "b/segmm/AP", "'b/segmm/AP' is none"),
    ],
)
def test_best_metric(names, metric, message):
    cfg = cfg_for(test=names, TEST__BEST_METRIC=metric)
    if message is None:
        check_best_metric(cfg, names)
    else:
        with pytest.raises(ConfigError, match=message):
            check_best_metric(cfg, names)


def test_best_metric_of_a_set_without_annotations_is_refused():
    cfg = cfg_for(test=["a", "b"], TEST__BEST_METRIC="b/segm/AP")
    with pytest.raises(ConfigError, match="set it to a/segm/AP"):
        check_best_metric(cfg, ["a"])
    check_best_metric(cfg, [])


def test_nothing_there_is_not_the_same_as_not_annotated(register, toy_data):
    nothing = register("nothing_val", lambda content: content["annotations"].clear())
    unknown = register("unknown_val", lambda content: content.pop("annotations"))
    assert is_annotated("toy_val") and is_annotated(nothing) and not is_annotated(unknown)


def test_set_without_annotations_gets_predictions_and_no_scores(register, tmp_path):
    name = register("unknown_val", lambda content: content.pop("annotations"))
    cfg = toy_cfg(tmp_path / "run", "DATASETS.TEST", (name, "toy_val"), "TEST.BEST_METRIC", "toy_val/segm/AP")
    results = Trainer.test(cfg, Trainer.build_model(cfg).eval())
    assert results[name] == {} and results["toy_val"]["segm"]["AP"] > 0
    folder = tmp_path / "run/inference" / name
    assert len(json.loads((folder / "coco_instances_results.json").read_text())) > 7
    assert json.loads((folder / "metrics.json").read_text())["results"] == {}
