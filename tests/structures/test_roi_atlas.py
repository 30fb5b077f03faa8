import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2.structures.roi_atlas import (
    SPACINGS,
    RoiAtlas,
    clip_boxes,
    expand_boxes,
    fraction_to_index,
    point_positions,
)
from tests.conftest import xyxy

STRIDES = (1, 2, 4, 8, 16)


def one_image(boxes: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)


def test_crops_equal_the_released_ones(golden, device):
    data = golden("grid_crop")
    boxes = expand_boxes(xyxy(data["boxes_cxcywh"]), float(data["expand"])).to(device)
    expected = [data[f"crop_{k}"] for k in range(len(boxes))]
    # The released program's boxes are in index coordinates.
    for atlas in (
        RoiAtlas(boxes, one_image(boxes), (1,), spacing="released"),
        RoiAtlas(boxes + 0.5, one_image(boxes), (1,), spacing="edges"),
    ):
        crops = atlas.grids[0].split(atlas.canvases[0].to_list(atlas.crop(0, data["feature"].to(device))))
        assert sorted(atlas.order.tolist()) == [k for k, crop in enumerate(expected) if crop.numel()]
        for k, crop in zip(atlas.order.tolist(), crops):
            torch.testing.assert_close(crop.permute(2, 0, 1)[None].cpu(), expected[k], atol=5e-5, rtol=0)


def test_edges_are_sampled_where_the_convention_says():
    """An asymmetric example by hand: a map that holds its own x index + 10 times its y index."""
    feature = (torch.arange(40.0)[None, :] + 10 * torch.arange(30.0)[:, None])[None, None]
    boxes = torch.tensor([[3.0, 5.0, 9.0, 8.0]])
    level0, level1 = RoiAtlas(boxes, one_image(boxes), (1, 2), min_size=1).grids
    assert (level0.heights.tolist(), level0.widths.tolist()) == ([3], [6])
    assert (level1.heights.tolist(), level1.widths.tolist()) == ([1], [3])
    crop = RoiAtlas(boxes, one_image(boxes), (1,)).crop(0, feature).view(3, 6)
    # From edge to edge; pixel 0 has its center at 1/2.
    torch.testing.assert_close(crop[0], 45 + torch.linspace(2.5, 8.5, 6))
    torch.testing.assert_close(crop[:, 0], 2.5 + 10 * torch.linspace(4.5, 7.5, 3))


def test_centers_sample_every_level_at_the_same_positions():
    """A map of stride 2 that holds the continuous x + 10 y of its cell centers, next to the one of stride 1."""

    def map_of(stride: int) -> torch.Tensor:
        x, y = (torch.arange(40 // stride) + 0.5) * stride, (torch.arange(32 // stride) + 0.5) * stride
        return (x[None, :] + 10 * y[:, None])[None, None]

    boxes = torch.tensor([[4.0, 6.0, 12.0, 18.0]])
    atlas = RoiAtlas(boxes, one_image(boxes), (1, 2), spacing="centers")
    fine = atlas.crop(0, map_of(1)).view(12, 8)
    assert fine[0, 0] == 4.5 + 10 * 6.5 and fine[-1, -1] == 11.5 + 10 * 17.5
    coarse = atlas.crop(1, map_of(2)).view(6, 4)
    torch.testing.assert_close(coarse, F.avg_pool2d(fine[None], 2)[0])
    inner = atlas.resize(0, coarse.view(-1, 1)).view(12, 8)[1:-1, 1:-1]
    torch.testing.assert_close(inner, fine[1:-1, 1:-1])


@pytest.mark.parametrize("spacing", SPACINGS)
def test_resize_equals_interpolate_for_every_roi(spacing, device):
    boxes = torch.tensor([[0.0, 0, 37, 21], [3.3, 4.1, 24.9, 50.2], [10, 10, 17, 13], [2, 2, 7.9, 7.9]], device=device)
    atlas = RoiAtlas(boxes, one_image(boxes), STRIDES, spacing=spacing)
    for level in range(len(STRIDES) - 1):
        low_canvas, high_canvas = atlas.canvases[level + 1], atlas.canvases[level]
        low = torch.randn(low_canvas.grid.num_pixels, 3, device=device)
        high = atlas.resize(level, low_canvas.from_list(low))
        assert high[high_canvas.roi[: len(high)] == len(high_canvas)].abs().sum() == 0
        high_grid = high_canvas.grid.prefix(len(low_canvas))
        high = high[high_canvas.pixel_cells[: high_grid.num_pixels]]
        for one, resized in zip(low_canvas.grid.split(low), high_grid.split(high)):
            size = resized.shape[:2]
            expected = F.interpolate(one.permute(2, 0, 1)[None], size=size, mode="bilinear", align_corners=False)
            torch.testing.assert_close(resized.permute(2, 0, 1)[None], expected, atol=1e-5, rtol=1e-5)


def test_rois_of_several_images_sample_their_own_image(device):
    feature = torch.stack([torch.full((1, 20, 20), float(n)) for n in range(3)]).to(device)
    boxes = torch.tensor([[2.0, 2, 9, 9], [1, 1, 15, 15], [3, 3, 8, 12]], device=device)
    image = torch.tensor([2, 0, 1], device=device)
    atlas = RoiAtlas(boxes, image, (1, 2))
    for roi, crop in enumerate(atlas.grids[0].split(atlas.canvases[0].to_list(atlas.crop(0, feature)))):
        assert (crop == atlas.image[roi]).all()
    assert atlas.image.tolist() == image[atlas.order].tolist()


def test_levels_under_two_points_are_left_out_with_all_deeper_ones():
    boxes = torch.tensor([[0.0, 0, 1.9, 50], [0, 0, 7, 4], [0, 0, 40, 40], [0, 0, 3, 3]])
    atlas = RoiAtlas(boxes, one_image(boxes), STRIDES)
    assert atlas.order.tolist() == [2, 1, 3]
    assert [len(grid) for grid in atlas.grids] == [3, 2, 1, 1, 1]


def test_no_boxes_make_an_empty_atlas(device):
    boxes = torch.zeros(0, 4, device=device)
    atlas = RoiAtlas(boxes, one_image(boxes), STRIDES)
    assert len(atlas) == 0
    assert atlas.crop(0, torch.zeros(1, 3, 8, 8, device=device)).shape == (0, 3)


def test_samples_equal_the_released_uncertainty(golden):
    data = golden("uncertain_points")
    height, width = data["mask"].shape
    boxes = torch.tensor([[0.0, 0, width, height]])
    atlas = RoiAtlas(boxes, one_image(boxes), (1,))
    uncertainty = -(2 * data["mask"].reshape(-1, 1) - 1).abs()
    roi = torch.zeros(len(data["points_xy01"]), dtype=torch.int64)
    sampled = atlas.sample(0, atlas.canvases[0].from_list(uncertainty), roi, data["points_xy01"])[:, 0]
    torch.testing.assert_close(sampled, data["uncertainty"], atol=1e-5, rtol=0)
    assert sampled.argsort(descending=True)[:50].tolist() == data["top_index"].tolist()


def test_image_positions_are_where_the_grid_is(device):
    boxes = torch.tensor([[3.0, 5, 9, 8], [1, 2, 21, 30]], device=device)
    atlas = RoiAtlas(boxes, one_image(boxes), (1,))
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0]], device=device)
    roi = torch.arange(2, device=device)
    x, y = atlas.image_positions(roi, corners)
    grid_x, grid_y = atlas.positions(0)
    corner_pixels = [0, atlas.grids[0].num_pixels - 1]
    torch.testing.assert_close(torch.stack([x, y], 1), torch.stack([grid_x, grid_y], 1)[corner_pixels])


def test_an_unknown_spacing_is_refused():
    with pytest.raises(ValueError, match="spacing must be one of"):
        RoiAtlas(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), (1,), spacing="corners")


def test_an_area_limit_splits_the_rois():
    sides = torch.tensor([4.0, 30, 9, 1, 30, 5, 17, 30])
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], 1)
    image = torch.arange(len(boxes))
    assert len(RoiAtlas.within_area(boxes, image, STRIDES)) == 1
    atlases = RoiAtlas.within_area(boxes, image, STRIDES, max_pixels=1000)
    assert sorted(torch.cat([atlas.order for atlas in atlases]).tolist()) == [0, 1, 2, 4, 5, 6, 7]
    for atlas in atlases:
        assert atlas.grids[0].num_pixels <= 1000 + 900
        assert torch.equal(atlas.image, atlas.order)
        levels = [len(grid) for grid in atlas.grids]
        assert levels == sorted(levels, reverse=True)
    assert len(atlases) > 2
    areas = [(atlas.grids[0].heights * atlas.grids[0].widths).tolist() for atlas in atlases]
    assert all(min(larger) >= max(smaller) for larger, smaller in zip(areas, areas[1:]))


@given(
    st.lists(st.tuples(*[st.integers(-20, 220)] * 2, *[st.integers(1, 200)] * 2), min_size=1, max_size=4),
    st.sampled_from(["edges", "centers"]),
    st.integers(1, 2),
)
@settings(max_examples=40)
def test_the_crop_of_a_flipped_image_is_the_flipped_crop(quarters, spacing, min_size):
    """On every level, both ways; boxes in quarters of a pixel, so that flipping them is exact."""
    corner, size = torch.tensor(quarters).float().div(4).split(2, 1)
    boxes = torch.cat([corner, corner + size], 1)
    width, height = 64, 48
    flipped = torch.stack([width - boxes[:, 2], height - boxes[:, 3], width - boxes[:, 0], height - boxes[:, 1]], 1)
    atlas, flipped_atlas = (RoiAtlas(b, one_image(b), STRIDES, min_size, spacing) for b in (boxes, flipped))
    generator = torch.Generator().manual_seed(0)
    for level, stride in enumerate(STRIDES):
        feature = torch.rand(1, 1, height // stride, width // stride, generator=generator)
        crops = [
            a.grids[level].split(a.canvases[level].to_list(a.crop(level, f)))
            for a, f in ((atlas, feature), (flipped_atlas, feature.flip(2, 3)))
        ]
        for crop, flipped_crop in zip(*crops, strict=True):
            torch.testing.assert_close(crop.flip(0, 1), flipped_crop, atol=1e-4, rtol=0)


def test_a_roi_beyond_the_limit_has_fewer_pixels():
    boxes = torch.tensor([[0.0, 0, 400, 100], [0, 0, 30, 30]])
    atlases = RoiAtlas.within_area(boxes, one_image(boxes), STRIDES, max_pixels=10000)
    large, small = ([(int(g.heights[0]), int(g.widths[0])) for g in a.grids if len(g)] for a in atlases)
    assert large == [(50, 200), (25, 100), (12, 50), (6, 25), (3, 12)]
    assert small[0] == (30, 30)


def test_boxes_grow_about_their_centers_by_a_factor_and_then_by_pixels():
    # Center (20, 40), sides 20 and 40: 1.5 times and 6 more are 36 and 66.
    boxes = torch.tensor([[10.0, 20, 30, 60]])
    assert expand_boxes(boxes, 1.5, 6.0).tolist() == [[2, 7, 38, 73]]
    assert expand_boxes(boxes, 0.5).tolist() == [[15, 30, 25, 50]]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_index_of_a_fraction_inverts_the_spacing_and_stays_among_the_pixels(spacing, count):
    index, counts = torch.arange(count), torch.full((count,), count)
    fraction = point_positions(torch.zeros(count), torch.ones(count), counts, index, spacing)
    torch.testing.assert_close(fraction_to_index(fraction, counts, spacing), index.float(), atol=1e-5, rtol=0)
    ends = fraction_to_index(torch.tensor([-0.3, 0.0, 1.0, 1.3]), torch.full((4,), count), spacing)
    assert ends.tolist() == [0, 0, count - 1, count - 1]


def test_boxes_are_clipped_to_the_image():
    nan, inf = float("nan"), float("inf")
    boxes = torch.tensor([[-5.0, 2, 30, 1e9], [1, 2, 3, 4], [nan, 0, 5, 5], [0, 0, inf, 5], [50, 50, 60, 60]])
    expected = [[0, 2, 20, 10], [1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0], [20, 10, 20, 10]]
    assert clip_boxes(boxes, (10, 20)).tolist() == expected
