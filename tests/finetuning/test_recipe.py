import pytest

from objguided_d2.config import get_cfg
from objguided_d2.finetuning.dataset import Split
from objguided_d2.finetuning.recipe import base_config


@pytest.mark.parametrize(("crop", "batch"), [(128, 16), (256, 4), (384, 2), (1024, 1)])
def test_a_step_on_a_cpu_has_as_many_pixels_at_every_crop_size(crop, batch):
    cfg = get_cfg("nuclei/objguided_small_R_18")
    cfg.INPUT.SQUARE_CROP.OUTPUT_SIZE, cfg.SOLVER.IMS_PER_BATCH = crop, 32
    given = {"num_classes": 1, "scale": 1.0, "score_threshold": 0.3, "image_sides": [2000], "seed": 0}
    given |= {"new_objects": False, "intensity": ""}
    split = Split(("a",), (), 5, 0, 5)
    finetuning = base_config(cfg, split=split, from_scratch=False, device="cpu", **given)
    assert finetuning.SOLVER.IMS_PER_BATCH == batch and finetuning.INPUT.SQUARE_CROP.OUTPUT_SIZE == crop
    assert finetuning.SOLVER.BASE_LR == pytest.approx(0.1 * cfg.SOLVER.BASE_LR * (batch / 32) ** 0.5)
    assert base_config(cfg, split=split, from_scratch=False, device="cuda", **given).SOLVER.IMS_PER_BATCH == 32
