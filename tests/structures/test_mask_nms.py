import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2.structures import mask_nms as nms
from objguided_d2.structures.mask_nms import mask_nms, pairwise_iou
from tests.structures.masks import from_dense, random_masks, rectangles


def test_suppression_equals_the_released_one(golden):
    data = golden("mask_nms")
    masks = from_dense(data["masks"].bool())
    order = data["scores"].argsort(descending=True)
    groups = torch.zeros(len(order), dtype=torch.int64)
    assert mask_nms(masks, order, float(data["iou_thresh"]), groups).tolist() == data["keep"].tolist()


@given(rectangles, st.integers(0, 1000), st.sampled_from([0.0, 0.1, 0.3, 0.6]))
@settings(deadline=None, max_examples=60)
def test_suppression_equals_going_through_the_masks_one_by_one(windows, seed, threshold):
    masks = random_masks(windows, seed)
    dense = masks.tensor
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(masks), generator=generator)[: max(1, len(masks) - 1)]
    groups = torch.randint(0, 2, (len(masks),), generator=generator)
    kept = []
    for i in order.tolist():
        overlaps = [(dense[i] & dense[j]).sum() / (dense[i] | dense[j]).sum() for j in kept if groups[i] == groups[j]]
        if not any(overlap > threshold for overlap in overlaps):
            kept.append(i)
    assert mask_nms(masks, order, threshold, groups).tolist() == kept


def test_chain_of_suppression():
    # Each is too much like the one before it: every second one stays.
    masks = random_masks([(0, 2 * k, 12, 4) for k in range(6)])
    masks.bits[:] = True
    kept = mask_nms(masks, torch.arange(6), 0.3, torch.zeros(6, dtype=torch.int64))
    assert kept.tolist() == [0, 2, 4]


def test_no_masks():
    masks = random_masks([(0, 0, 2, 2)])[:0]
    assert masks.to_rle() == [] and len(mask_nms(masks, torch.arange(0), 0.5, torch.arange(0))) == 0


def test_suppression_leaves_other_classes_alone():
    masks = from_dense(torch.ones(3, 4, 4, dtype=torch.bool))
    kept = mask_nms(masks, torch.tensor([2, 0, 1]), 0.5, torch.tensor([0, 1, 0]))
    assert kept.tolist() == [2, 1]


@given(rectangles, st.integers(0, 1000), st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_both_ways_give_the_intersections_of_dense_masks(windows, seed, band_pixels):
    masks = random_masks(windows, seed)
    dense = masks.tensor.flatten(1).long()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms, "_BAND_PIXELS", band_pixels)
        patch.setattr(nms, "CHUNK_PIXELS", 7)
        index = torch.randperm(len(masks))[: max(1, len(masks) - 1)]
        assert torch.equal(nms._intersection_matrix(masks, index), (dense @ dense.t())[index][:, index])
    first = second = torch.arange(len(masks))
    expected = (dense.sum(1) > 0).float()
    for cost in (0.0, 1e9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nms, "_PAIR_COST", cost)
            assert torch.equal(pairwise_iou(masks, first, second), expected)


def test_hundreds_of_masks_of_the_whole_image_take_seconds_not_hours():
    masks = from_dense(torch.rand(300, 64, 96, generator=torch.Generator().manual_seed(0)) > 0.3)
    kept = mask_nms(masks, torch.arange(300), 0.5, torch.zeros(300, dtype=torch.int64))
    # Independent random masks have an IoU of 0.7^2 / (1 - 0.3^2) = 0.54.
    assert kept.tolist() == [0]
