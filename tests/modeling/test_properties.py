"""What holds for images of any size with any number of boxes of any shape.

Few examples here; ``make soak`` takes many (``--hypothesis-profile soak``).
"""

from functools import cache

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from objguided_d2.modeling.center_targets import encode
from objguided_d2.modeling.losses import heatmap_focal_loss
from objguided_d2.modeling.mask_head import ObjectGuidedMaskHead
from objguided_d2.structures.ragged_masks import PASTE_MODES
from tests.modeling.models import CHANNELS, narrow_cfg, peaky_model, training_losses

NUM_CLASSES = 2
IN_TEST_RUNS = 3  # examples of each test
MAX_OBJECT_AREA = 15_000  # pixels of the boxes of an image in all, which the time follows

if settings.get_current_profile_name() == "soak":
    examples = settings()
else:
    examples = settings(max_examples=IN_TEST_RUNS)

sides = st.integers(1, 700)
counts = st.integers(0, 300)
seeds = st.integers(0, 2**31)
scenes = st.tuples(sides, sides, counts)


def random_boxes(height: int, width: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """Boxes (count, 4) of whole pixels inside the image, areas of several orders of magnitude, aspects up to 50."""
    uniform = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    area = torch.exp(uniform[:, 0] * torch.tensor(float(height * width)).log())
    area = area * (MAX_OBJECT_AREA / area.sum().clamp(min=MAX_OBJECT_AREA))
    aspect = torch.exp((2 * uniform[:, 1] - 1) * torch.tensor(50.0).log())
    limits = torch.tensor([width, height])
    size = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1).round().long()
    size = torch.minimum(size.clamp(min=1), limits)
    corner = (uniform[:, 2:] * (limits - size + 1)).long()
    return torch.cat([corner, corner + size], 1).float()


def random_batch(scenes: list[tuple[int, int, int]], seed: int) -> list[dict]:
    """Training inputs: noise, and in every box a mask of random pixels whose corners are set."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for height, width, count in scenes:
        boxes = random_boxes(height, width, count, generator)
        masks = torch.zeros(count, height, width, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
            window = torch.rand(y2 - y1, x2 - x1, generator=generator) > 0.3
            window[0, 0] = window[-1, -1] = True
            mask[y1:y2, x1:x2] = window
        instances = Instances((height, width), gt_boxes=Boxes(boxes), gt_masks=BitMasks(masks))
        instances.gt_classes = torch.randint(0, NUM_CLASSES, (count,), generator=generator)
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
        batch.append({"image": image, "instances": instances, "height": height, "width": width})
    return batch


@cache
def narrow_model() -> nn.Module:
    """A model in double precision, where rounding does not decide; its weights are random and its maps are not flat."""
    cfg = narrow_cfg(NUM_CLASSES)
    cfg.MODEL.CENTER_HEAD.TOPK = 300
    model = peaky_model(cfg).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # An example leaves nothing to the next one.
    return model


@examples
@given(st.lists(scenes, min_size=2, max_size=2), seeds)
def test_losses_and_gradients_are_finite_and_the_order_of_boxes_is_immaterial(scenes, seed):
    model, batch = narrow_model(), random_batch(scenes, seed)
    model.zero_grad()
    losses = training_losses(model, batch)
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    for inputs in batch:
        order = torch.randperm(len(inputs["instances"]), generator=torch.Generator().manual_seed(seed))
        inputs["instances"] = inputs["instances"][order]
    with torch.no_grad():
        permuted = training_losses(model, batch)
    for name in losses.keys() - {"loss_refine"}:  # Its points are drawn anew.
        torch.testing.assert_close(permuted[name], losses[name], rtol=1e-6, atol=1e-9)


@examples
@given(st.lists(scenes, min_size=2, max_size=2), seeds)
def test_predictions_are_finite_and_neither_padding_nor_the_batch_matters(scenes, seed):
    model, batch = narrow_model().eval(), random_batch(scenes, seed)
    with torch.no_grad():
        together = [output["instances"] for output in model(batch)]
        for inputs, found in zip(batch, together):
            height, width = inputs["height"], inputs["width"]
            assert found.scores.isfinite().all() and found.pred_masks.shape == (len(found), height, width)
            boxes = found.pred_boxes.tensor
            assert boxes.isfinite().all() and (boxes >= 0).all()
            assert (boxes <= torch.tensor([width, height, width, height])).all()
            alone = model([inputs])[0]["instances"]
            assert len(alone) == len(found) and torch.equal(alone.pred_classes, found.pred_classes)
            torch.testing.assert_close(alone.scores, found.scores)
            assert torch.equal(alone.pred_masks, found.pred_masks)


@examples
@given(scenes, seeds)
def test_given_boxes_are_pasted_in_their_own_order(scene, seed):
    """Boxes of any shape; those of a permutation give the permuted masks."""
    height, width, count = scene
    model, batch = narrow_model().eval(), random_batch([(height, width, 0)], seed)
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(height, width, count, generator)
    order = torch.randperm(count, generator=generator)
    masks = []
    with torch.no_grad():
        features = model.backbone(model.preprocess_image(batch).tensor)
        for given_boxes in (boxes, boxes[order]):
            instances = Instances((height, width), pred_boxes=Boxes(given_boxes))
            (result,) = model.roi_heads.forward_with_given_boxes(features, [instances])
            assert len(result) == count and result.pred_masks.probabilities.isfinite().all()
            masks.append(result.pred_masks)
    for mode in PASTE_MODES:
        first, second = (part.paste((height, width), 0.5, mode) for part in masks)
        areas = first.area()
        assert torch.equal(areas[order], second.area()) and (areas <= height * width).all()
        assert torch.equal(first.get_bounding_boxes().tensor[order], second.get_bounding_boxes().tensor)


def flip_boxes(boxes: torch.Tensor, width: int) -> torch.Tensor:
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([width - x2, y1, width - x1, y2], 1)


@examples
@given(st.integers(1, 175), st.integers(1, 175), counts, seeds)
def test_targets_and_heatmap_loss_of_a_flipped_image_are_the_flipped_ones(rows, columns, count, seed):
    stride, generator = 4, torch.Generator().manual_seed(seed)
    boxes = random_boxes(stride * rows, stride * columns, count, generator)
    # Centers apart from the edges of cells, which belong to one side.
    boxes[:, ::2] += 0.5 * ((boxes[:, :1] + boxes[:, 2:3]) % 2 == 0)
    shape = (1, NUM_CLASSES, rows, columns)
    image = torch.zeros(count, dtype=torch.int64)
    classes = torch.randint(0, NUM_CLASSES, (count,), generator=generator)
    plain = encode(boxes, image, classes, shape, stride)
    flipped = encode(flip_boxes(boxes, stride * columns), image, classes, shape, stride)
    on_map = ((boxes[:, 0] + boxes[:, 2]) / 2 < stride * columns).all()
    assert on_map and torch.equal(flipped.heatmap, plain.heatmap.flip(3))
    assert torch.equal(flipped.cell % columns, columns - 1 - plain.cell % columns)
    torch.testing.assert_close(flipped.offset, torch.stack([1 - plain.offset[:, 0], plain.offset[:, 1]], 1))
    assert torch.equal(flipped.wh, plain.wh)
    logits = torch.randn(shape, generator=generator)
    torch.testing.assert_close(
        heatmap_focal_loss(logits, plain.heatmap), heatmap_focal_loss(logits.flip(3), flipped.heatmap)
    )


@cache
def mask_heads(spacing: str) -> tuple[ObjectGuidedMaskHead, ObjectGuidedMaskHead]:
    """A mask head, and one whose kernels are the flipped ones."""
    torch.manual_seed(0)
    shapes = {name: ShapeSpec(channels=c, stride=2**i) for i, (name, c) in enumerate(CHANNELS.items())}
    settings = {"ladder_channels": [4] * 4, "norm_affine": False, "seg_head_dim": 4, "grid": spacing}
    # A factor that is exact in binary: else rounding decides whether a side has one pixel more.
    settings |= {"box_expansion": 1.125, "max_atlas_pixels": 200_000}
    heads = tuple(ObjectGuidedMaskHead(input_shape=shapes, **settings) for _ in range(2))
    nn.init.normal_(heads[0].seg_head.predictor.weight, std=0.3)
    heads[1].load_state_dict({k: v.flip(3) if v.dim() == 4 else v for k, v in heads[0].state_dict().items()})
    return heads


@pytest.mark.parametrize("spacing", ["edges", "centers"])
@examples
@given(st.integers(1, 43), st.integers(1, 43), counts, seeds)
def test_masks_and_losses_of_a_flipped_image_are_the_flipped_ones(spacing, rows, columns, count, seed):
    """With flipped kernels, on maps of an image whose sides are multiples of the largest stride."""
    height, width = 16 * rows, 16 * columns
    generator = torch.Generator().manual_seed(seed)
    features = [
        torch.randn(1, c, height >> i, width >> i, generator=generator) for i, c in enumerate(CHANNELS.values())
    ]
    (inputs,) = random_batch([(height, width, count)], seed)
    target = inputs["instances"]
    mirrored = Instances((height, width), gt_boxes=Boxes(flip_boxes(target.gt_boxes.tensor, width)))
    mirrored.gt_masks = BitMasks(target.gt_masks.tensor.flip(2))
    results, losses = [], []
    for head, maps, truth in zip(mask_heads(spacing), (features, [f.flip(3) for f in features]), (target, mirrored)):
        with torch.no_grad(), EventStorage():
            results.append(head(maps, [truth.gt_boxes], [(height, width)])[0])
            losses.append(head.losses(maps, [truth])["loss_mask"])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-6)
    pixels = height * width
    parts = [masks.grid.split(masks.probabilities) for masks in results]
    for one, other in zip(*parts, strict=True):
        torch.testing.assert_close(one.flip(1), other, atol=2e-3, rtol=0)
    for mode in PASTE_MODES:
        one, other = (masks.paste((height, width), 0.5, mode).tensor for masks in results)
        # Where a probability is that of the threshold up to rounding, either is right.
        assert (one.flip(2) != other).sum() <= 1e-3 * count * min(pixels, MAX_OBJECT_AREA)
