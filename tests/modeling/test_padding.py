"""An image in a batch of others, and in bfloat16."""

import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances

from tests.modeling.models import disk_batch, peaky_model, small_cfg


def test_padding_changes_nothing_of_an_image_whose_size_is_a_multiple():
    torch.manual_seed(0)
    cfg = small_cfg()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build_model(cfg).eval()
    small, large = disk_batch([(64, 64), (96, 128)], [2, 2])
    with torch.no_grad():
        heatmap = [
            model.proposal_generator.head(model.backbone(model.preprocess_image(b).tensor)["c3"])[0]
            for b in ([large], [large, small])
        ]
    torch.testing.assert_close(heatmap[0], heatmap[1], atol=1e-5, rtol=1e-4)


def assert_same_instances(first: Instances, second: Instances) -> None:
    assert len(first) == len(second) and first.image_size == second.image_size
    torch.testing.assert_close(first.scores, second.scores, atol=1e-4, rtol=0)
    assert torch.equal(first.pred_classes, second.pred_classes)
    assert torch.equal(first.pred_masks, second.pred_masks)


def test_an_image_gives_the_same_instances_alone_and_in_any_batch():
    cfg = small_cfg()
    cfg.MODEL.CENTER_HEAD.TOPK = 15
    model = peaky_model(cfg)
    # Two have one padded size, none the same size.
    batch = disk_batch([(50, 75), (64, 96), (33, 120)], [3, 4, 2])
    with torch.no_grad():
        alone = [model([inputs])[0]["instances"] for inputs in batch]
        together = [output["instances"] for output in model(batch)]
        reverse = [output["instances"] for output in model(batch[::-1])][::-1]
    assert all(len(instances) > 5 for instances in alone)
    for instances, *others in zip(alone, together, reverse):
        for other in others:
            assert_same_instances(instances, other)


def test_a_larger_image_takes_no_peaks_from_a_smaller_one():
    cfg = small_cfg()
    cfg.MODEL.CENTER_HEAD.TOPK = 10
    model = peaky_model(cfg)
    small, large = disk_batch([(37, 41), (64, 64)], [2, 2])
    images = model.preprocess_image([small, large])
    assert images.tensor.shape[-2:] == (64, 64)
    with torch.no_grad():
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features)
    assert 5 < len(proposals[0]) <= 10
    centers = proposals[0].proposal_boxes.get_centers()
    # A cell of 4 x 4 pixels belongs to the image if its first pixel does; offsets are near zero here.
    assert (centers < torch.tensor([44.5, 40.5])).all()


def test_padding_is_black():
    cfg = small_cfg()
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [10.0, 20.0, 30.0], [2.0, 4.0, 5.0]
    model = build_model(cfg)
    (inputs,) = disk_batch([(40, 50)], [1])
    black = {"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}
    black["image"][:, :40, :50] = inputs["image"]
    padded, whole = (model.preprocess_image([x]).tensor for x in (inputs, black))
    assert torch.equal(padded, whole)
    expected = (inputs["image"].float() - model.pixel_mean) / model.pixel_std
    assert torch.equal(padded[0, :, :40, :50], expected)


def test_bfloat16_finds_nearly_what_float32_finds():
    model = peaky_model()
    batch = disk_batch([(128, 160)], [12])
    counts = []
    with torch.no_grad():
        counts.append(len(model.proposal_generator(*_maps(model, batch))[0][0]))
        with torch.autocast("cpu", torch.bfloat16):
            heatmap = model.proposal_generator.head(_maps(model, batch)[1]["c3"])
            assert heatmap.dtype == torch.float32
            counts.append(len(model.proposal_generator(*_maps(model, batch))[0][0]))
    assert abs(counts[1] - counts[0]) <= 0.05 * counts[0]


def _maps(model, batch):
    images = model.preprocess_image(batch)
    return images, model.backbone(images.tensor)
