import math

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2.structures.ragged_grid import RaggedGrid
from objguided_d2.structures.ragged_masks import RaggedMasks, RaggedROIMasks
from tests.conftest import xyxy

HEIGHT, WIDTH = 12, 17
rectangles = st.lists(
    st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1), st.integers(1, 8), st.integers(1, 8)),
    min_size=1,
    max_size=6,
)


def random_masks(windows, seed: int = 0) -> RaggedMasks:
    """Random bits in windows (top, left, height, width), cut to the image."""
    top, left, height, width = torch.tensor(windows).unbind(1)
    height, width = torch.minimum(height, HEIGHT - top), torch.minimum(width, WIDTH - left)
    grid = RaggedGrid(height, width, torch.device("cpu"))
    bits = torch.rand(grid.num_pixels, generator=torch.Generator().manual_seed(seed)) > 0.5
    return RaggedMasks(bits, grid, top, left, (HEIGHT, WIDTH))


def from_dense(masks: torch.Tensor) -> RaggedMasks:
    number, height, width = masks.shape
    grid = RaggedGrid(torch.full((number,), height), torch.full((number,), width), masks.device)
    zeros = torch.zeros(number, dtype=torch.int64)
    return RaggedMasks(masks.flatten(), grid, zeros, zeros, (height, width))


@given(rectangles, st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_everything_agrees_with_the_dense_masks(windows, seed):
    masks = random_masks(windows, seed)
    dense = masks.tensor
    assert masks.area().tolist() == dense.sum((1, 2)).tolist()
    assert masks.get_bounding_boxes().tensor.tolist() == BitMasks(dense).get_bounding_boxes().tensor.tolist()
    for rle, mask in zip(masks.to_rle(), dense):
        expected = mask_util.encode(np.asfortranarray(mask.numpy().view(np.uint8)))
        assert rle == {"size": expected["size"], "counts": expected["counts"].decode()}
    order = torch.randperm(len(masks))
    torch.testing.assert_close(masks[order].tensor, dense[order])
    torch.testing.assert_close(masks[order > 0].tensor, dense[order > 0])
    torch.testing.assert_close(RaggedMasks.cat([masks[1:], masks[:1]]).tensor, torch.cat([dense[1:], dense[:1]]))
    np.testing.assert_array_equal(np.asarray(masks), dense.numpy())


@given(rectangles, st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_resize_reads_the_pixel_that_nearest_neighbor_reads(windows, new_height, new_width):
    masks = random_masks(windows)
    resized = masks.resize_nearest((new_height, new_width)).tensor
    rows = torch.arange(new_height) * HEIGHT // new_height
    columns = torch.arange(new_width) * WIDTH // new_width
    torch.testing.assert_close(resized, masks.tensor[:, rows][:, :, columns])


def test_resize_equals_opencv_nearest():
    masks = random_masks([(0, 0, 8, 8), (3, 5, 9, 7)])
    expected = [cv2.resize(m.numpy().view(np.uint8), (40, 31), interpolation=cv2.INTER_NEAREST) for m in masks]
    np.testing.assert_array_equal(np.asarray(masks.resize_nearest((31, 40))), np.stack(expected).astype(bool))


def test_instances_index_move_and_join_it():
    masks = random_masks([(0, 0, 4, 4), (5, 6, 3, 8), (2, 2, 2, 2)])
    instances = Instances((HEIGHT, WIDTH), pred_masks=masks, scores=torch.tensor([0.1, 0.9, 0.5]))
    assert len(instances[instances.scores > 0.3].pred_masks) == 2
    assert len(Instances.cat([instances, instances]).to("cpu").pred_masks) == 6
    assert masks[1].shape == (HEIGHT, WIDTH) and masks[-1].dtype == torch.bool
    with pytest.raises(IndexError):
        masks[3]


def test_votes_equal_the_released_paste(golden, device):
    data = golden("hough_paste")
    size = (int(data["height"]), int(data["width"]))
    rois = [data[f"roi_{k}"] for k in range(len(data["boxes_cxcywh"]))]
    grid = RaggedGrid(*torch.tensor([list(r.shape) for r in rois]).unbind(1), device)
    masks = RaggedROIMasks(
        torch.cat([r.flatten() for r in rois]).to(device), grid, xyxy(data["boxes_cxcywh"]).to(device), "edges", size
    )
    pasted = masks.paste(size, float(data["threshold"]), "hough").tensor.cpu()
    torch.testing.assert_close(pasted.float(), torch.stack([data[f"pasted_{k}"] for k in range(len(rois))]).float())


def test_suppression_equals_the_released_one(golden):
    data = golden("mask_nms")
    masks = from_dense(data["masks"].bool())
    order = data["scores"].argsort(descending=True)
    groups = torch.zeros(len(order), dtype=torch.int64)
    assert masks.non_maximum_suppression(order, float(data["iou_thresh"]), groups).tolist() == data["keep"].tolist()


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
    assert masks.non_maximum_suppression(order, threshold, groups).tolist() == kept


def test_chain_of_suppression():
    # Each is too much like the one before it: every second one stays.
    masks = random_masks([(0, 2 * k, 12, 4) for k in range(6)])
    masks.bits[:] = True
    kept = masks.non_maximum_suppression(torch.arange(6), 0.3, torch.zeros(6, dtype=torch.int64))
    assert kept.tolist() == [0, 2, 4]


def test_no_masks():
    masks = random_masks([(0, 0, 2, 2)])[:0]
    assert masks.to_rle() == [] and len(masks.non_maximum_suppression(torch.arange(0), 0.5, torch.arange(0))) == 0


def test_suppression_leaves_other_classes_alone():
    masks = from_dense(torch.ones(3, 4, 4, dtype=torch.bool))
    kept = masks.non_maximum_suppression(torch.tensor([2, 0, 1]), 0.5, torch.tensor([0, 1, 0]))
    assert kept.tolist() == [2, 1]


@pytest.mark.parametrize("spacing", ["edges", "centers"])
@pytest.mark.parametrize("scale", [1, 3])
def test_reading_paste_puts_a_half_plane_where_it_is(spacing, scale):
    """The ROI holds a ramp that crosses 1/2 at a known x of the image; asymmetric box, asymmetric scale."""
    box = torch.tensor([[5.0, 3.0, 29.0, 15.0]])
    height, width = 12, 24
    if spacing == "edges":
        x = 5 + torch.arange(width) * (24 / (width - 1)) + 0.5
    else:
        x = 5 + torch.arange(width) + 0.5
    ramp = ((x - 17.0) / 20 + 0.5).expand(height, width)
    grid = RaggedGrid(torch.tensor([height]), torch.tensor([width]), torch.device("cpu"))
    masks = RaggedROIMasks(ramp.flatten().contiguous(), grid, box, spacing, (20, 40))
    pasted = masks.paste((20 * scale, 40 * 2 * scale), 0.5, "bilinear").tensor[0]
    columns = torch.nonzero(pasted.any(0))[:, 0]
    rows = torch.nonzero(pasted.any(1))[:, 0]
    edge = 0.5 if spacing == "edges" else 0.0
    # Pixel j is inside if its center, (j + 1/2) / scale in input pixels, lies right of the crossing.
    assert columns.min() == 17 * 2 * scale and columns.max() == int((29 + edge) * 2 * scale - 0.5)
    assert rows.min() == math.ceil((3 + edge) * scale - 0.5) and rows.max() == int((15 + edge) * scale - 0.5)


def test_a_box_outside_the_image_gives_an_empty_mask():
    grid = RaggedGrid(torch.tensor([4]), torch.tensor([4]), torch.device("cpu"))
    masks = RaggedROIMasks(torch.ones(16), grid, torch.tensor([[-30.0, -30, -26, -26]]), "edges", (20, 20))
    for mode in ("hough", "bilinear"):
        assert masks.paste((20, 20), 0.5, mode).area().tolist() == [0]


def test_detectron2_pastes_it_as_roi_masks():
    grid = RaggedGrid(torch.tensor([6]), torch.tensor([10]), torch.device("cpu"))
    masks = RaggedROIMasks(torch.ones(60), grid, torch.tensor([[4.0, 2, 14, 8]]), "centers", (20, 20))
    bitmasks = masks.to_bitmasks(Boxes(torch.tensor([[4.0, 2, 14, 8]])), 20, 20)
    assert bitmasks.get_bounding_boxes().tensor.tolist() == [[4, 2, 14, 8]]


@pytest.mark.parametrize("mode", ["hough", "bilinear"])
def test_boxes_of_negative_size_paste_without_error(mode):
    grid = RaggedGrid(torch.tensor([1, 3]), torch.tensor([1, 3]), torch.device("cpu"))
    boxes = torch.tensor([[9.5, 9.5, 4.0, 3.0], [2.0, 2, 5, 5]])
    masks = RaggedROIMasks(torch.tensor([0.0] + [1.0] * 9), grid, boxes, "edges", (20, 20))
    assert (masks.paste((20, 20), 0.4, mode).area() > 0).tolist() == [False, True]
