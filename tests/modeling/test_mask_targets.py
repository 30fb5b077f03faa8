import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from objguided_d2.modeling.mask_targets import ObjectMasks, jitter_boxes, sample_rois_within_area


def instances(size: tuple[int, int], masks: BitMasks | PolygonMasks) -> Instances:
    return Instances(size, gt_boxes=Boxes(torch.zeros(len(masks), 4)), gt_masks=masks)


def test_masks_of_images_of_different_sizes_are_read_at_their_place():
    first, second = torch.zeros(2, 5, 9, dtype=torch.bool), torch.zeros(1, 12, 4, dtype=torch.bool)
    first[1, 2, 7] = second[0, 10, 1] = True
    targets = [instances((5, 9), BitMasks(first)), instances((12, 4), BitMasks(second))]
    masks = ObjectMasks(targets).select(torch.tensor([2, 1]))
    roi = torch.tensor([0, 1, 1, 0, 1])
    x, y = torch.tensor([1.0, 7.0, 7.5, 1.0, 8.9]), torch.tensor([10.0, 2.0, 2.0, 9.25, 20.0])
    torch.testing.assert_close(masks.sample(roi, x, y), torch.tensor([1.0, 1.0, 0.5, 0.25, 0.0]))


def test_polygons_are_filled():
    square = PolygonMasks([[[2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]]])
    masks = ObjectMasks([instances((8, 10), square)]).select(torch.tensor([0]))
    assert masks.sample(
        torch.zeros(2, dtype=torch.int64), torch.tensor([4.0, 8.0]), torch.tensor([2.0, 2.0])
    ).tolist() == [1, 0]


def test_sampling_bounds_the_area_and_gives_every_object_the_same_chance():
    torch.manual_seed(0)
    side = torch.tensor([10.0] * 10 + [30.0] * 10 + [10.0])
    boxes = torch.stack([torch.zeros_like(side), torch.zeros_like(side), side, side], 1)
    image = torch.tensor([0] * 20 + [1])
    taken = torch.zeros(21)
    for _ in range(2000):
        kept = sample_rois_within_area(boxes, image, 2, 3000)
        area = (side[kept[kept < 20]] ** 2).sum()
        assert 3000 <= area < 3000 + 900
        taken[kept] += 1
    assert taken[20] == 2000
    fraction = taken[:20] / 2000
    assert abs(fraction[:10].mean() - fraction[10:].mean()) < 0.03


def test_jitter_is_relative_to_the_size_of_the_box():
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 20.0, 30.0, 120.0]]).repeat(4000, 1)
    assert jitter_boxes(boxes, 0.0, 0.0) is boxes
    moved = jitter_boxes(boxes, 0.1, 0.2)
    center, size = (moved[:, :2] + moved[:, 2:]) / 2, moved[:, 2:] - moved[:, :2]
    torch.testing.assert_close(center.std(0), torch.tensor([2.0, 10.0]), rtol=0.1, atol=0)
    torch.testing.assert_close(size.log().std(0), torch.tensor([0.2, 0.2]), rtol=0.1, atol=0)
    # Of 4 normal numbers for each box none has to do with another.
    correlation = torch.corrcoef(torch.cat([center, size.log()], 1).T)
    torch.testing.assert_close(correlation, torch.eye(4), atol=0.1, rtol=0)
