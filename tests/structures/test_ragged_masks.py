import math

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2.structures import ragged_masks
from objguided_d2.structures.ragged_grid import RaggedGrid
from objguided_d2.structures.ragged_masks import RaggedMasks, RaggedROIMasks
from objguided_d2.structures.roi_atlas import SPACINGS
from tests.conftest import xyxy
from tests.structures.masks import HEIGHT, WIDTH, random_masks, rectangles


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


def test_a_tensor_or_array_that_is_one_number_indexes_as_the_number():
    masks = random_masks([(0, 0, 4, 4), (5, 6, 3, 8), (2, 2, 2, 2)])
    best = torch.tensor([0.1, 0.9, 0.5]).argmax()
    for index in (best, best.to(torch.uint8), torch.tensor(-2), np.array(1)):
        assert torch.equal(masks[index], masks.tensor[1])
    assert len(masks[torch.tensor([1])]) == 1
    for index in (torch.tensor(3), np.array(-4)):
        with pytest.raises(IndexError, match="of 3"):
            masks[index]
    with pytest.raises((IndexError, TypeError)):
        masks[torch.tensor(1.0)]


def test_votes_equal_the_released_paste(golden, device):
    data = golden("hough_paste")
    size = (int(data["height"]), int(data["width"]))
    rois = [data[f"roi_{k}"] for k in range(len(data["boxes_cxcywh"]))]
    grid = RaggedGrid(*torch.tensor([list(r.shape) for r in rois]).unbind(1), device)
    masks = RaggedROIMasks(
        torch.cat([r.flatten() for r in rois]).to(device), grid, xyxy(data["boxes_cxcywh"]).to(device), "released", size
    )
    pasted = masks.paste(size, float(data["threshold"]), "hough").tensor.cpu()
    torch.testing.assert_close(pasted.float(), torch.stack([data[f"pasted_{k}"] for k in range(len(rois))]).float())


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("scale", [1, 3])
def test_reading_paste_puts_a_half_plane_where_it_is(spacing, scale):
    """The ROI holds a ramp that crosses 1/2 at a known x of the image; asymmetric box, asymmetric scale."""
    box = torch.tensor([[5.0, 3.0, 29.0, 15.0]])
    height, width = 12, 24
    edge = 0.5 if spacing == "released" else 0.0
    x = 5 + torch.arange(width) + 0.5 if spacing == "centers" else 5 + torch.arange(width) * (24 / (width - 1)) + edge
    ramp = ((x - 17.0) / 20 + 0.5).expand(height, width)
    grid = RaggedGrid(torch.tensor([height]), torch.tensor([width]), torch.device("cpu"))
    masks = RaggedROIMasks(ramp.flatten().contiguous(), grid, box, spacing, (20, 40))
    pasted = masks.paste((20 * scale, 40 * 2 * scale), 0.5, "bilinear").tensor[0]
    columns = torch.nonzero(pasted.any(0))[:, 0]
    rows = torch.nonzero(pasted.any(1))[:, 0]
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


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("mode", ["hough", "bilinear"])
def test_a_coarse_mask_fills_its_box_without_holes(mode, spacing):
    """A tenth of the pixels in either direction, all set."""
    grid = RaggedGrid(torch.tensor([4]), torch.tensor([6]), torch.device("cpu"))
    masks = RaggedROIMasks(torch.ones(24), grid, torch.tensor([[10.0, 20, 70, 60]]), spacing, (100, 100))
    window = masks.paste((100, 100), 0.4, mode).tensor[0, 22:58, 12:68]
    assert window.all()
    assert masks.paste((100, 100), 0.4, mode).area().item() <= 62 * 42


@pytest.mark.parametrize("mode", ["hough", "bilinear"])
def test_masks_are_pasted_a_few_at_a_time_where_the_output_is_larger(mode, monkeypatch):
    sides = torch.full((20,), 8)
    grid = RaggedGrid(sides, sides, torch.device("cpu"))
    boxes = torch.tensor([[4.0, 4, 12, 12]]).repeat(20, 1)
    masks = RaggedROIMasks(torch.rand(grid.num_pixels), grid, boxes, "centers", (16, 16))
    expected = masks.paste((160, 160), 0.5, mode)
    counts = []
    monkeypatch.setattr(ragged_masks, "CHUNK_PIXELS", 3 * 80 * 80)
    windows = RaggedROIMasks._windows
    monkeypatch.setattr(RaggedROIMasks, "_windows", lambda *args: counts.append(len(args[0])) or windows(*args))
    assert torch.equal(masks.paste((160, 160), 0.5, mode).bits, expected.bits)
    assert max(counts) == 3


@pytest.mark.parametrize("mode", ["hough", "bilinear"])
@pytest.mark.parametrize("spacing", ["edges", "centers"])
def test_the_paste_of_a_flipped_roi_is_the_flipped_paste(mode, spacing):
    generator = torch.Generator().manual_seed(0)
    box = torch.tensor([[3.25, 4.5, 21.75, 16.25]])
    flipped_box = torch.tensor([[32 - 21.75, 4.5, 32 - 3.25, 16.25]])
    probability = torch.rand(11, 18, generator=generator)
    grid = RaggedGrid(torch.tensor([11]), torch.tensor([18]), torch.device("cpu"))
    pasted, flipped = (
        RaggedROIMasks(p.flatten(), grid, b, spacing, (20, 32)).paste((20, 32), 0.5, mode).tensor
        for p, b in ((probability, box), (probability.flip(1), flipped_box))
    )
    assert pasted.any() and torch.equal(pasted.flip(2), flipped)


@given(rectangles, st.integers(0, 1000), st.sampled_from([0.3, 0.5, 1.0]))
@settings(deadline=None, max_examples=40)
def test_soft_iou_is_that_of_each_mask_with_its_probabilities(windows, seed, threshold):
    heights, widths = (torch.tensor([window[side] for window in windows]) for side in (2, 3))
    grid = RaggedGrid(heights, widths, torch.device("cpu"))
    probabilities = torch.rand(grid.num_pixels, generator=torch.Generator().manual_seed(seed))
    masks = RaggedROIMasks(probabilities, grid, torch.zeros(len(windows), 4), "centers", (HEIGHT, WIDTH))
    for soft_iou, p in zip(masks.soft_iou(threshold), grid.split(probabilities[:, None])):
        bits = (p > threshold).float()
        expected = torch.minimum(p, bits).sum() / torch.maximum(p, bits).sum()
        torch.testing.assert_close(soft_iou, expected)


@pytest.mark.parametrize("mode", ["hough", "bilinear"])
def test_a_pixel_at_the_threshold_is_no_part_of_the_object(mode):
    grid = RaggedGrid(torch.tensor([2]), torch.tensor([3]), torch.device("cpu"))
    probabilities = torch.tensor([0.5, 0.75, 0.5, 0.25, 0.5, 1.0])
    masks = RaggedROIMasks(probabilities, grid, torch.tensor([[4.0, 2, 7, 4]]), "centers", (10, 12))
    assert torch.nonzero(masks.paste((10, 12), 0.5, mode).tensor[0]).tolist() == [[2, 5], [3, 6]]
    # Of the pixels, 3 are at 0.5 and one is at 0.25: none of them is in the binary mask.
    torch.testing.assert_close(masks.soft_iou(0.5), torch.tensor([1.75 / (2 + 1.5 + 0.25)]))


def test_squares_are_read_at_the_centers_of_equal_parts_and_are_zero_outside():
    """A mask of 4 x 8 pixels that holds its column + 10 times its row, plus 1, read in two boxes at once."""
    column, row = torch.arange(8.0), torch.arange(4.0)
    values = 1 + column + 10 * row[:, None]
    sides = torch.tensor([4, 4]), torch.tensor([8, 8])
    grid = RaggedGrid(*sides, torch.device("cpu"))
    boxes = torch.tensor([[4.0, 2, 12, 6]]).repeat(2, 1)
    masks = RaggedROIMasks(values.flatten().repeat(2), grid, boxes, "centers", (10, 20))
    whole, shifted = masks.to_squares(boxes + torch.tensor([[0.0], [1.0]]) * torch.tensor([4.0, 1, 4, 1]), 4)[:, 0]
    # Every part is 2 columns wide and a row high.
    expected = 1 + torch.tensor([0.5, 2.5, 4.5, 6.5]) + 10 * row[:, None]
    torch.testing.assert_close(whole, expected)
    torch.testing.assert_close(shifted[:3, :2], expected[1:, 2:])
    assert not shifted[3].any() and not shifted[:, 2:].any()


def test_votes_of_a_last_pixel_that_rounds_up_past_its_box_stay_in_their_own_mask():
    # In float32 0.01 + 6 x (end - 0.01) / 6 is 8, though the box ends just before it.
    end = 8 - 2**-21
    sides = torch.tensor([7])
    grid = RaggedGrid(sides, sides, torch.device("cpu"))
    masks = RaggedROIMasks(torch.ones(49), grid, torch.tensor([[0.01, 0.01, end, end]]), "released", (20, 20))
    assert masks.boxes[0, 2] < 8
    assert masks.paste((20, 20), 0.1, "hough").get_bounding_boxes().tensor.tolist() == [[0, 0, 9, 9]]
