"""Budgets, sizes and which images are held out."""

import json

import pytest
from detectron2.data import DatasetCatalog

from objguided_d2 import get_cfg
from objguided_d2.finetuning.dataset import TRAIN, LabeledImages, Split, register_split, split_images
from objguided_d2.finetuning.errors import FinetuneError
from objguided_d2.finetuning.object_size import choose_scale
from objguided_d2.finetuning.recipe import (
    EVALUATIONS,
    LR_FACTOR,
    LR_FACTOR_FOR_NEW_OBJECTS,
    STEPS,
    Budget,
    are_new,
    base_config,
    with_budget,
)
from objguided_d2.inference.model_info import ModelInfo


@pytest.mark.parametrize(
    ("steps", "minutes", "elapsed", "evaluation", "expected"),
    [
        (None, None, 50, 5, Budget(STEPS, 0.0, EVALUATIONS)),
        (3, None, 50, 5, Budget(3, 0.0, 3)),
        (None, 10, 60, 6, Budget(10**6, 8.0, EVALUATIONS)),
        (200, 10, 60, 6, Budget(200, 8.0, EVALUATIONS)),
        # A fifth of 100 seconds is one evaluation of 20.
        (None, 2, 20, 20, Budget(10**6, 80 / 60, 1)),
        (None, 1, 90, 20, Budget(10**6, 1 / 60, 1)),
    ],
)
def test_minutes_are_for_everything_and_evaluations_take_a_fifth_at_most(steps, minutes, elapsed, evaluation, expected):
    assert Budget.plan(steps, minutes, elapsed_seconds=elapsed, evaluation_seconds=evaluation) == expected


def test_new_weights_learn_at_the_models_own_rate_and_with_its_own_batch_norm():
    model_cfg = get_cfg()
    model_cfg.SOLVER.BASE_LR, model_cfg.SOLVER.FREEZE_BN_AT = 0.008, 0.75
    plan = {"num_classes": 1, "split": Split(("a",), (), 3, 0, 3), "scale": 1.0, "score_threshold": 0.3}
    plan |= {"image_sides": [64], "seed": 0, "device": "cpu", "intensity": "", "output_dir": "out"}
    budget = Budget(STEPS, 0.0, EVALUATIONS)
    new, adapted, taught = (
        with_budget(
            base_config(model_cfg, from_scratch=from_scratch, **plan), budget, "start.pth", new_objects=new_objects
        ).SOLVER
        for from_scratch, new_objects in ((True, True), (False, False), (False, True))
    )
    assert (new.BASE_LR, new.FREEZE_BN_AT) == (0.008, 0.75)
    assert (adapted.BASE_LR, adapted.FREEZE_BN_AT) == (0.008 * LR_FACTOR, 0.0)
    assert (taught.BASE_LR, taught.FREEZE_BN_AT) == (0.008 * LR_FACTOR_FOR_NEW_OBJECTS, 0.0)


@pytest.mark.parametrize(
    ("before", "new"), [(None, True), (3.9, True), (19.0, True), (float("nan"), True), (40.0, False)]
)
def test_objects_that_a_model_is_not_good_at_are_new(before, new):
    assert are_new(before if before is None else {"AP": before}) is new


def coco(folder, objects_by_image, side=12):
    """A COCO file of images with so many squares each."""
    images, annotations = [], []
    for number, count in enumerate(objects_by_image):
        images.append({"id": number + 1, "file_name": f"a{number}.png", "width": 200, "height": 100})
        for i in range(count):
            corners = [i * 20, 0, i * 20 + side, 0, i * 20 + side, side, i * 20, side]
            annotations.append({"id": len(annotations) + 1, "image_id": number + 1, "category_id": 1, "iscrowd": 0})
            annotations[-1] |= {"bbox": [i * 20, 0, side, side], "area": side * side, "segmentation": [corners]}
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (folder / "all.json").write_text(json.dumps(content))
    return LabeledImages(folder / "all.json", folder)


def split(folder, objects_by_image, **kwargs):
    return split_images(coco(folder, objects_by_image), folder, **{"held_out_fraction": 0.2, "seed": 0, **kwargs})


def test_images_are_held_out_from_four_with_objects_on(tmp_path):
    assert not split(tmp_path, [1, 1, 1]).held_out
    assert not split(tmp_path, [1, 1, 1, 0, 0]).held_out
    few = split(tmp_path, [1, 2, 1, 2, 0])
    assert len(few.held_out) == 1 and "a4" in few.train
    assert few.num_train_objects + few.num_held_out_objects == 6 and few.most_objects == 2
    assert len(split(tmp_path, [1] * 10).held_out) == 2
    assert not split(tmp_path, [1] * 10, held_out_fraction=0.0).held_out
    assert split(tmp_path, [1] * 10) == split(tmp_path, [1] * 10) != split(tmp_path, [1] * 10, seed=1)


def test_groups_are_not_divided(tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("image,group\n" + "".join(f"a{i},{'xyz'[i // 2]}\n" for i in range(6)))
    divided = split(tmp_path, [1] * 6, groups=str(table))
    assert set(divided.held_out) in ({"a0", "a1"}, {"a2", "a3"}, {"a4", "a5"})
    assert not split(tmp_path, [1] * 6, groups="^a").held_out
    with pytest.raises(FinetuneError, match="matches nothing"):
        split(tmp_path, [1] * 6, groups="^b")


def test_records_keep_what_was_split(tmp_path):
    parts = split(tmp_path, [1, 2, 3, 4])
    assert register_split(tmp_path, tmp_path) == ("square",)
    names = tuple(record["file_name"].rpartition("/")[2].removesuffix(".png") for record in DatasetCatalog.get(TRAIN))
    assert names == parts.train


SQUARE = 1.128  # diameter of the circle that has the area of a square of side 1


@pytest.mark.parametrize(
    ("side", "known", "given", "scale"),
    [
        (6, 12.0, None, 2.0),  # 6.8 px, 13.5 in the network: about the training's 12
        (10, 12.0, None, 12 / (10 * SQUARE)),  # nearly twice the training's
        (3, 12.0, None, 12 / (3 * SQUARE)),
        (10, None, None, 2.0),
        (2, None, None, 16 / (2 * SQUARE)),  # under 8 in the network
        (10, 12.0, 0.7, 0.7),
    ],
)
def test_objects_far_from_the_trainings_size_are_scaled_to_it(tmp_path, side, known, given, scale):
    split_images(coco(tmp_path, [3], side=side), tmp_path, held_out_fraction=0.0, seed=0)
    register_split(tmp_path, tmp_path)
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 200, 10000
    chosen = choose_scale(cfg, ModelInfo(("object",), 0.3, object_diameter=known), TRAIN, given)
    assert chosen.value == pytest.approx(scale, rel=0.01)
    assert chosen.diameter == pytest.approx(side * SQUARE * scale, rel=0.01)
