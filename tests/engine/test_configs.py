from pathlib import Path

import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage

from objguided_d2 import get_cfg

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if not path.name.startswith("suite_"))
LEAVES = [path for path in FILES if not path.name.startswith("Base-")]


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def load(path: Path):
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    cfg.MODEL.DEVICE = "cpu"
    return cfg


@pytest.mark.parametrize("path", FILES, ids=name)
def test_file_stays_inside_the_tree(path):
    load(path)
    bases = yaml.safe_load(path.read_text()).get("_BASE_", [])
    for base in [bases] if isinstance(bases, str) else bases:
        assert (path.parent / base).resolve().is_relative_to(CONFIGS)


@pytest.mark.parametrize("path", LEAVES, ids=name)
def test_leaf_names_its_datasets_and_output(path):
    cfg = load(path)
    if not path.name.startswith("demo_"):  # The demo registers its own.
        assert {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST} <= set(DatasetCatalog.list())
    assert cfg.OUTPUT_DIR == f"./output/{name(path).removesuffix('.yaml')}"
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 500


@pytest.mark.parametrize("path", LEAVES, ids=name)
def test_model_takes_a_step_and_detects(path):
    cfg = load(path)
    # Few ROIs: they take the time, and their number does not decide whether the parts fit together.
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    torch.manual_seed(0)
    model = build_model(cfg)
    samples = [make_sample(), make_sample()]
    with EventStorage():
        losses = model(samples)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())

    model.eval()
    with torch.no_grad():
        (output,) = model([{"image": samples[0]["image"], "height": 48, "width": 96}])
    assert output["instances"].image_size == (48, 96)
    assert {"pred_boxes", "pred_masks", "pred_classes", "scores"} <= set(output["instances"].get_fields())


def make_sample() -> dict:
    """A noise image of 64 x 64 with two squares as objects."""
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 8:30, 10:34] = True
    masks[1, 40:56, 36:60] = True
    instances = Instances((64, 64), gt_masks=BitMasks(masks), gt_classes=torch.zeros(2, dtype=torch.long))
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    return {"image": torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8), "instances": instances}
