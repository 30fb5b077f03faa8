"""What every model that labels pixels keeps to: DCAN and CosineEmbedding."""

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from objguided_d2 import get_cfg
from objguided_d2.modeling import ragged_masks
from objguided_d2.structures.ragged_masks import RaggedMasks
from tests.modeling.models import disk_batch, training_losses

LOSSES = {
    "dcan": {"loss_object", "loss_contour", "loss_object_aux", "loss_contour_aux"},
    "cosine_embedding": {"loss_embedding", "loss_embedding_first"},
}
KEYS = {"dcan": "DCAN", "cosine_embedding": "COSINE_EMBEDDING"}


def small_cfg(method: str, num_classes: int = 1, device: str = "cpu") -> CfgNode:
    """With layers of a few channels."""
    cfg = get_cfg(f"dsb2018/{method}_R_18_256")
    cfg.MODEL.DEVICE = device
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.RESNETS.DEPTH = 50  # Those of less depth are 64 channels wide.
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.UNET.C1_CHANNELS, cfg.MODEL.UNET.DECODER_CHANNELS = 4, [8, 8, 8]
    cfg.MODEL.DCAN.HIDDEN_CHANNELS = cfg.MODEL.COSINE_EMBEDDING.CHANNELS = 8
    cfg.MODEL[KEYS[method]].MIN_AREA = 2
    return cfg


def untrained_model(cfg: CfgNode) -> torch.nn.Module:
    """Labels something in any image."""
    torch.manual_seed(0)
    model = build_model(cfg)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # The statistics of one batch.
    with torch.no_grad():
        training_losses(model, disk_batch([(64, 64)] * 2, [4] * 2))
    return model.eval()


@pytest.fixture(params=LOSSES)
def method(request) -> str:
    return request.param


def test_losses_of_a_batch_with_an_empty_image_and_several_classes(method, device):
    torch.manual_seed(0)
    model = build_model(small_cfg(method, num_classes=3, device=str(device)))
    losses = training_losses(model, disk_batch([(64, 96), (70, 50), (33, 65)], [4, 0, 2], num_classes=3))
    assert set(losses) - {"loss_class"} == LOSSES[method]
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("num_classes", [1, 3])
def test_without_any_object_every_parameter_has_a_gradient_for_other_processes_to_wait_for(method, num_classes):
    model = build_model(small_cfg(method, num_classes))
    losses = training_losses(model, disk_batch([(64, 64), (64, 64)], [0, 0]))
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_ignored_regions_and_padding_are_in_no_loss(method):
    """The loss of the second image alone is that of both, but for BatchNorm, which is fixed here."""
    model = untrained_model(small_cfg(method))
    batch = disk_batch([(50, 64), (64, 64)], [2, 3])
    batch[0]["instances"] = batch[0]["instances"][:0]
    batch[0]["ignore_region"] = torch.ones(50, 64, dtype=torch.bool)
    model.training = True
    with EventStorage():
        both, second = model(batch), model(batch[1:])
    for name in LOSSES[method]:
        torch.testing.assert_close(both[name], second[name])


def test_predictions_have_detectron2_fields_at_the_output_size(method, device):
    cfg = small_cfg(method, num_classes=2, device=str(device))
    cfg.TEST.DETECTIONS_PER_IMAGE = 20
    model = untrained_model(cfg)
    batch = disk_batch([(50, 75), (64, 40)], [3, 1])
    batch[0].update(height=100, width=225)
    outputs = [output["instances"] for output in model(batch)]
    assert [instances.image_size for instances in outputs] == [(100, 225), (64, 40)]
    assert any(len(instances) for instances in outputs)
    for instances in outputs:
        assert len(instances) <= 20
        assert set(instances.get_fields()) == {"pred_boxes", "scores", "pred_classes", "pred_masks"}
        assert (instances.scores.diff() <= 0).all() and (instances.scores <= 1).all()
        assert instances.pred_masks.shape == (len(instances), *instances.image_size)
        assert instances.pred_masks.dtype == torch.bool and instances.pred_masks.sum(0).max() <= 1
        assert set(instances.pred_classes.tolist()) <= {0, 1}


def test_ragged_masks_are_the_same_masks(method):
    model, batch = untrained_model(small_cfg(method)), disk_batch([(64, 80)], [3])
    dense = model(batch)[0]["instances"]
    with ragged_masks(torch.nn.Sequential(model)):
        ragged = model(batch)[0]["instances"]
    assert isinstance(ragged.pred_masks, RaggedMasks) and model.mask_format == "dense"
    assert torch.equal(ragged.pred_masks.tensor, dense.pred_masks)


def test_an_image_gives_the_same_instances_alone_and_in_any_batch(method):
    model, batch = untrained_model(small_cfg(method)), disk_batch([(50, 75), (97, 64)], [3, 5])
    together = model(batch)
    for inputs, output in zip(batch, together):
        alone = model([inputs])[0]["instances"]
        assert torch.equal(alone.pred_masks, output["instances"].pred_masks)


def test_bfloat16_autocast_trains_and_predicts(method, device):
    cfg = small_cfg(method, device=str(device))
    batch = disk_batch([(64, 64), (64, 64)], [4, 2])
    torch.manual_seed(0)
    model = build_model(cfg)
    full = training_losses(model, batch)
    with torch.autocast(device.type, torch.bfloat16):
        losses = training_losses(model, batch)
        sum(losses.values()).backward()
        instances = model.eval()(batch)[0]["instances"]
    assert all(p.grad.isfinite().all() for p in model.parameters())
    for name, loss in losses.items():
        assert loss.dtype == torch.float32 and abs(loss - full[name]) < 0.1 * full[name]
    assert instances.scores.dtype == torch.float32


def test_weights_that_are_not_finite_give_no_instances(method):
    model = untrained_model(small_cfg(method))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    assert len(model(disk_batch([(50, 75)], [3]))[0]["instances"]) == 0


def test_a_class_beyond_num_classes_is_refused_with_the_key(method):
    batch = disk_batch([(64, 64)], [2])
    batch[0]["instances"].gt_classes[1] = 2
    with pytest.raises(ValueError, match="class 2, but .* has 2 classes; set MODEL.ROI_HEADS.NUM_CLASSES"):
        training_losses(build_model(small_cfg(method, num_classes=2)), batch)


INVALID = [
    ("dcan", "MODEL.DCAN.CONTOUR_RADIUS", -1),
    ("dcan", "MODEL.DCAN.CONTOUR_WEIGHT", 0.0),
    ("dcan", "MODEL.DCAN.AUX_DECAY_PERIOD", 0),
    ("dcan", "MODEL.DCAN.IN_FEATURES", ["res3", "c9"]),
    ("dcan", "TEST.ORIENTATIONS", 8),
    ("dcan", "TEST.DETECTIONS_PER_IMAGE", 0),
    ("cosine_embedding", "MODEL.COSINE_EMBEDDING.NEIGHBOR_DISTANCE", 0),
    ("cosine_embedding", "MODEL.COSINE_EMBEDDING.NUM_LEVELS", 0),
    ("cosine_embedding", "MODEL.COSINE_EMBEDDING.MAX_SAMPLES", 1),
    ("cosine_embedding", "MODEL.BACKBONE.NAME", "build_resnet_backbone"),
]


@pytest.mark.parametrize("method, key, value", INVALID, ids=[key for _, key, _ in INVALID])
def test_invalid_values_are_refused_at_build_time_by_their_key(method, key, value):
    cfg = small_cfg(method)
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=key):
        build_model(cfg)
