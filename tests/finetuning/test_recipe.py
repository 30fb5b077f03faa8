import pytest

from objguided_d2.config import get_cfg
from objguided_d2.finetuning.dataset import Split
from objguided_d2.finetuning.recipe import Budget, base_config, bundle_config, with_budget


@pytest.mark.parametrize(("crop", "batch"), [(128, 16), (256, 4), (384, 2), (1024, 1)])
def test_a_step_on_a_cpu_has_as_many_pixels_at_every_crop_size(crop, batch):
    cfg = get_cfg("nuclei/objguided_small_R_18")
    cfg.INPUT.SQUARE_CROP.OUTPUT_SIZE, cfg.SOLVER.IMS_PER_BATCH = crop, 32
    given = {"num_classes": 1, "scale": 1.0, "score_threshold": 0.3, "image_sides": [2000], "seed": 0}
    given |= {"from_scratch": False, "intensity": "", "output_dir": "out"}
    split = Split(("a",), (), 5, 0, 5)
    base = base_config(cfg, split=split, device="cpu", **given)
    finetuning = with_budget(base, Budget(400, 0.0, 10), "start.pth", new_objects=False)
    assert finetuning.SOLVER.IMS_PER_BATCH == batch and finetuning.INPUT.SQUARE_CROP.OUTPUT_SIZE == crop
    assert finetuning.SOLVER.BASE_LR == pytest.approx(0.1 * cfg.SOLVER.BASE_LR * (batch / 32) ** 0.5)
    on_gpu = base_config(cfg, split=split, device="cuda", **given).SOLVER
    assert (on_gpu.IMS_PER_BATCH, on_gpu.BASE_LR) == (32, cfg.SOLVER.BASE_LR)
    # Of a GPU with less memory.
    small = base_config(cfg, split=split, device="cuda", options=["SOLVER.IMS_PER_BATCH", 8], **given).SOLVER
    assert (small.IMS_PER_BATCH, small.BASE_LR) == (8, cfg.SOLVER.BASE_LR / 2)


def test_pairs_win_over_the_recipe_and_the_bundle_predicts_as_was_measured():
    model_cfg = get_cfg()
    options = {"SOLVER.BASE_LR": 0.5, "SOLVER.WARMUP_ITERS": 3, "SOLVER.CHECKPOINT_PERIOD": 7, "TEST.ORIENTATIONS": 2}
    pairs = [part for pair in options.items() for part in pair]
    given = {"num_classes": 1, "scale": 1.0, "score_threshold": 0.4, "image_sides": [64], "seed": 0, "device": "cpu"}
    given |= {"from_scratch": False, "intensity": "", "output_dir": "out", "split": Split(("a",), (), 5, 0, 5)}
    base = base_config(model_cfg, options=pairs, **given)
    trained = with_budget(base, Budget(400, 0.0, 10), "start.pth", new_objects=False, options=pairs)
    solver = trained.SOLVER
    assert (solver.BASE_LR, solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD, solver.MAX_ITER) == (0.5, 3, 7, 400)
    bundled = bundle_config(trained, model_cfg)
    assert bundled.TEST.ORIENTATIONS == base.TEST.ORIENTATIONS == 2 and bundled.is_frozen()
    assert bundled.SOLVER == model_cfg.SOLVER and bundled.TEST.EVALUATORS == model_cfg.TEST.EVALUATORS
    assert bundled.TEST.LABEL_MAP_SCORE_THRESH == model_cfg.TEST.LABEL_MAP_SCORE_THRESH
