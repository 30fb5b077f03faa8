"""What people do with a Detectron2 model works with ours."""

import copy

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.export import TracingAdapter
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import ColorMode, Visualizer

from objguided_d2.modeling import ragged_masks
from objguided_d2.structures.ragged_masks import RaggedMasks, RaggedROIMasks
from tests.modeling.models import disk_batch, small_cfg

METADATA = MetadataCatalog.get("__nothing__")


@pytest.fixture(scope="module")
def cfg():
    cfg = small_cfg()
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.CENTER_HEAD.TOPK = cfg.TEST.DETECTIONS_PER_IMAGE = 6
    cfg.MODEL.ROI_MASK_HEAD.MASK_THRESH = 0.3
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = (64,), 200
    return cfg


@pytest.fixture(scope="module")
def model(cfg):
    torch.manual_seed(0)
    model = build_model(cfg)
    torch.nn.init.normal_(model.proposal_generator.head.heatmap[-1].weight, std=0.01)
    torch.nn.init.constant_(model.proposal_generator.head.wh[-1].bias, 5.0)
    return model.eval()


@pytest.fixture(scope="module")
def sample():
    return disk_batch([(64, 80)], [3])[0]


@pytest.fixture(scope="module")
def instances(model, sample):
    with torch.no_grad():
        instances = model([sample])[0]["instances"]
    assert len(instances) > 1
    return instances


def test_masks_are_a_bool_tensor(instances):
    masks = instances.pred_masks
    assert isinstance(masks, torch.Tensor) and masks.dtype == torch.bool
    assert masks.shape == (len(instances), 64, 80)
    assert masks.cpu().numpy().any() and (masks == masks.clone()).all() and masks.sum((1, 2)).gt(0).all()
    assert torch.equal(copy.deepcopy(instances).pred_masks, masks)


def test_ragged_masks_are_the_same_masks(model, sample, instances):
    with torch.no_grad(), ragged_masks(torch.nn.Sequential(model)):
        ragged = model([sample])[0]["instances"]
    assert isinstance(ragged.pred_masks, RaggedMasks) and model.mask_format == "dense"
    assert torch.equal(ragged.pred_masks.tensor, instances.pred_masks)


@pytest.mark.parametrize("mode", ColorMode)
def test_the_visualizer_draws_in_every_mode(mode, instances, sample):
    image = np.ascontiguousarray(sample["image"].permute(1, 2, 0).numpy())
    drawn = Visualizer(image, METADATA, instance_mode=mode).draw_instance_predictions(instances).get_image()
    assert drawn.shape == image.shape and (drawn != image).any()


def test_the_video_visualizer_draws(instances, sample):
    image = np.ascontiguousarray(sample["image"].permute(1, 2, 0).numpy())
    drawn = VideoVisualizer(METADATA, ColorMode.IMAGE_BW).draw_instance_predictions(image, instances).get_image()
    assert drawn.shape == image.shape and (drawn != image).any()


def test_without_post_processing_masks_are_those_of_mask_rcnn(model, sample):
    given = Instances((64, 80), pred_boxes=Boxes(torch.tensor([[40.0, 4, 60, 20], [3, 30, 30, 60]])))
    given.pred_classes, given.scores = torch.zeros(2, dtype=torch.int64), torch.tensor([0.2, 0.9])
    with torch.no_grad():
        (dense,) = model.inference([sample], [copy.deepcopy(given)], do_postprocess=False)
        with ragged_masks(model):
            (ragged,) = model.inference([sample], [given], do_postprocess=False)
    assert dense.pred_masks.shape == (2, 1, 56, 56) and dense.pred_masks.dtype == torch.float32
    assert isinstance(ragged.pred_masks, RaggedROIMasks)
    threshold = float(dense.pred_masks.median())
    pasted = detector_postprocess(dense, 64, 80, threshold).pred_masks
    for mask, expected, box in zip(pasted, ragged.pred_masks.paste((64, 80), threshold, "bilinear"), given.pred_boxes):
        x1, y1, x2, y2 = box.long().tolist()
        assert (mask == expected)[y1:y2, x1:x2].float().mean() > 0.9 and mask[y1:y2, x1:x2].any()


def test_test_time_augmentation_works(cfg, model, sample):
    image = {"image": sample["image"], "height": 64, "width": 80}
    with torch.no_grad():
        instances = GeneralizedRCNNWithTTA(cfg, model)([image])[0]["instances"]
    assert len(instances) and instances.pred_masks.shape == (len(instances), 64, 80)
    assert model.roi_heads.mask_on


def test_a_trace_is_refused_in_one_line(model, sample):
    with pytest.raises(NotImplementedError, match="cannot be traced") as found:
        torch.jit.trace(TracingAdapter(model, [{"image": sample["image"]}]), (sample["image"],))
    assert "\n" not in str(found.value)
    with pytest.raises(NotImplementedError, match="cannot be traced or scripted"):
        torch.jit.script(model)
