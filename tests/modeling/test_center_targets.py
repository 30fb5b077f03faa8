"""Center targets and their inverse, against released values and the plain reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reference.rois import cxcywh_to_xyxy
from objguided_d2.modeling.center_targets import (
    decode,
    encode,
    find_peaks,
    gaussian_radius,
    ignored_cells,
    inside_cells,
)
from tests.reference import centers as reference

STRIDE = 4


def random_objects(seed, num_images=3, num_classes=4, height=20, width=28, max_per_image=6):
    """Boxes (CXCYWH, in cells) with centers on the map, their images and classes, and the heatmap's shape."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, max_per_image + 1, (num_images,), generator=generator)
    image = torch.arange(num_images).repeat_interleave(counts)
    num = len(image)
    center = torch.rand(num, 2, generator=generator) * torch.tensor([width, height])
    size = 0.2 + torch.rand(num, 2, generator=generator) ** 2 * 25
    classes = torch.randint(0, num_classes, (num,), generator=generator)
    return torch.cat([center, size], 1), image, classes, (num_images, num_classes, height, width)


class TestGaussianRadius:
    def test_cornernet_rule_gives_the_released_values(self, golden):
        values = golden("gaussian_radius")
        heights, widths = values["height_width"].double().unbind(1)
        radius = gaussian_radius(heights, widths, values["min_overlap"].item(), "cornernet")
        torch.testing.assert_close(radius, values["radius"], atol=1e-5, rtol=0)

    @settings(deadline=None, max_examples=50)
    @given(
        height=st.floats(1, 300),
        width=st.floats(1, 300),
        min_overlap=st.floats(0.05, 0.95),
        rule=st.sampled_from(["cornernet", "iou"]),
    )
    def test_equals_the_reference(self, height, width, min_overlap, rule):
        sides = torch.tensor([[height], [width]], dtype=torch.float64)
        radius = gaussian_radius(*sides, min_overlap, rule)
        assert radius.item() == pytest.approx(reference.GAUSSIAN_RADIUS[rule](height, width, min_overlap), rel=1e-6)

    @settings(deadline=None, max_examples=50)
    @given(
        height=st.floats(1, 300),
        width=st.floats(1, 300),
        min_overlap=st.floats(0.05, 0.95),
        moves=st.lists(st.floats(-1, 1), min_size=4, max_size=4),
    )
    def test_iou_rule_keeps_its_promise(self, height, width, min_overlap, moves):
        sides = torch.tensor([[height], [width]], dtype=torch.float64)
        radius = gaussian_radius(*sides, min_overlap, "iou").item()
        box = (0.0, 0.0, width, height)
        moved = tuple(edge + radius * move for edge, move in zip(box, moves))
        assert reference.box_iou(box, moved) >= min_overlap - 1e-9
        assert reference.worst_iou_of_moved_corners(height, width, 1.001 * radius) < min_overlap

    def test_unknown_rule(self):
        with pytest.raises(ValueError, match="rule must be one of"):
            gaussian_radius(torch.ones(1), torch.ones(1), 0.7, "exact")


class TestEncode:
    def test_gives_the_released_values(self, golden):
        values = golden("center_targets")
        boxes = values["boxes_cxcywh_stride4"]
        none = torch.zeros(len(boxes), dtype=torch.int64)
        targets = encode(STRIDE * cxcywh_to_xyxy(boxes), none, none, (1, 1, 48, 64), STRIDE)
        torch.testing.assert_close(targets.heatmap[0], values["heatmap"], atol=1e-5, rtol=0)
        torch.testing.assert_close(targets.wh, values["wh"], atol=1e-5, rtol=0)
        torch.testing.assert_close(targets.offset, values["offset"], atol=1e-5, rtol=0)
        assert targets.cell.tolist() == values["index"].tolist()

    @pytest.mark.parametrize("rule", ["cornernet", "iou"])
    @pytest.mark.parametrize("sigma_rule", ["diameter_sixth", "radius_third"])
    @pytest.mark.parametrize("seed", range(3))
    def test_equals_the_reference(self, rule, sigma_rule, seed):
        boxes, image, classes, shape = random_objects(seed)
        _, num_classes, height, width = shape
        rules = {"rule": rule, "sigma_rule": sigma_rule}
        targets = encode(STRIDE * cxcywh_to_xyxy(boxes), image, classes, shape, STRIDE, **rules)
        for i in range(shape[0]):
            mine = image == i
            heatmap, wh, offset, index = reference.center_targets(
                boxes[mine], classes[mine], num_classes, height, width, **rules
            )
            torch.testing.assert_close(targets.heatmap[i], heatmap, atol=1e-5, rtol=0)
            torch.testing.assert_close(targets.wh[mine], wh, atol=1e-5, rtol=0)
            torch.testing.assert_close(targets.offset[mine], offset, atol=1e-5, rtol=0)
            assert (targets.cell[mine] - i * height * width).tolist() == index.tolist()

    def test_is_exactly_one_at_centers_and_nowhere_else(self):
        boxes, image, classes, shape = random_objects(seed=7, max_per_image=30)
        targets = encode(STRIDE * cxcywh_to_xyxy(boxes), image, classes, shape, STRIDE)
        x, y = boxes[:, :2].floor().long().unbind(1)
        cells = set(zip(image.tolist(), classes.tolist(), y.tolist(), x.tolist()))
        assert {tuple(cell) for cell in (targets.heatmap == 1).nonzero().tolist()} == cells

    def test_integer_radius_survives_rounding(self):
        # The equations of a box of 165 x 196 give a radius of 49 exactly, which float32 misses from below.
        side = 230
        box = torch.tensor([[20.0, 20.0, 20.0 + 196, 20.0 + 165]])
        none = torch.zeros(1, dtype=torch.int64)
        heatmap = encode(box, none, none, (1, 1, side, side), stride=1).heatmap[0, 0]
        x, y = 118, 102
        assert heatmap[y, x + 49] > 0
        assert heatmap[y, x + 50] == 0

    def test_center_on_the_far_edge_stays_on_the_map(self):
        # A degenerate box at the right edge has its center at the width of the image.
        box = torch.tensor([[63.0, 10.0, 65.0, 14.0]])
        none = torch.zeros(1, dtype=torch.int64)
        targets = encode(box, none, none, (1, 1, 16, 16), STRIDE)
        assert targets.cell.tolist() == [3 * 16 + 15]
        torch.testing.assert_close(decode(targets.cell, targets.wh, targets.offset, 16, STRIDE), box)

    def test_no_objects(self):
        empty = torch.zeros(0, dtype=torch.int64)
        targets = encode(torch.zeros(0, 4), empty, empty, (2, 3, 8, 8), STRIDE)
        assert targets.heatmap.shape == (2, 3, 8, 8) and not targets.heatmap.any()
        assert targets.cell.shape == (0,) and targets.wh.shape == targets.offset.shape == (0, 2)

    @pytest.mark.parametrize("wrong", [2, -1])
    def test_a_class_that_the_heatmap_lacks_is_refused(self, wrong):
        boxes = torch.tensor([[4.0, 4, 12, 12], [8, 8, 20, 20]])
        image, classes = torch.tensor([0, 1]), torch.tensor([1, wrong])
        with pytest.raises(ValueError, match=f"class {wrong}, but the heatmap has 2 classes"):
            encode(boxes, image, classes, (2, 2, 8, 8), STRIDE)

    def test_unknown_sigma_rule(self):
        empty = torch.zeros(0, dtype=torch.int64)
        with pytest.raises(ValueError, match="sigma_rule must be one of"):
            encode(torch.zeros(0, 4), empty, empty, (1, 1, 8, 8), STRIDE, sigma_rule="third")


class TestIgnoredCells:
    def test_a_cell_is_ignored_if_all_its_pixels_are(self):
        # Rows 3 - 15 and columns 8 - 22 hold the cells of rows 1 - 3 and columns 2 - 4; of (2, 3) a pixel is missing.
        region = torch.zeros(2, 20, 28, dtype=torch.bool)
        region[1, 3:16, 8:23] = True
        region[1, 11, 15] = False
        got = ignored_cells(region, STRIDE)
        assert got.shape == (2, 5, 7) and got.dtype == torch.bool
        assert not got[0].any()
        assert got[1].int().tolist() == [
            [0, 0, 0, 0, 0, 0, 0],
            [0, 0, 1, 1, 1, 0, 0],
            [0, 0, 1, 0, 1, 0, 0],
            [0, 0, 1, 1, 1, 0, 0],
            [0, 0, 0, 0, 0, 0, 0],
        ]

    @pytest.mark.parametrize("stride", [1, 2, 4, 5])
    def test_equals_a_loop_over_cells(self, stride):
        region = torch.rand(2, 20, 40, generator=torch.Generator().manual_seed(stride)) < 0.9
        got = ignored_cells(region, stride)
        for n in range(2):
            for y in range(20 // stride):
                for x in range(40 // stride):
                    pixels = region[n, stride * y : stride * (y + 1), stride * x : stride * (x + 1)]
                    assert got[n, y, x] == pixels.all()

    def test_an_object_belongs_to_the_cell_that_its_center_pixel_is_in(self):
        """The cell of a center by ``encode`` is the one cell that a region of its own pixels makes ignored."""
        box = torch.tensor([[9.0, 4, 14, 15]])  # center (11.5, 9.5): column 2, row 2
        none = torch.zeros(1, dtype=torch.int64)
        cell = encode(box, none, none, (1, 1, 5, 7), STRIDE).cell
        region = torch.zeros(1, 20, 28, dtype=torch.bool)
        region[0, 8:12, 8:12] = True
        assert ignored_cells(region, STRIDE).flatten().nonzero().flatten().tolist() == cell.tolist() == [2 * 7 + 2]


class TestDecode:
    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 2**31), stride=st.sampled_from([1, 2, 4, 8]))
    def test_inverts_encode(self, seed, stride):
        boxes, image, classes, shape = random_objects(seed)
        boxes = stride * cxcywh_to_xyxy(boxes)
        targets = encode(boxes, image, classes, shape, stride)
        _, _, height, width = shape
        cell = targets.cell % (height * width)
        torch.testing.assert_close(decode(cell, targets.wh, targets.offset, width, stride), boxes, atol=1e-4, rtol=0)

    @staticmethod
    def detect(heatmap, wh, offset, topk, score_thresh):
        """Rows as in the reference, from (K, H, W) and two (2, H, W) maps."""
        scores, classes, cell = (part[0] for part in find_peaks(heatmap[None], topk))
        wh, offset = (values.flatten(1).T[cell] for values in (wh, offset))
        x1, y1, x2, y2 = decode(cell, wh, offset, heatmap.shape[-1], 1).unbind(1)
        rows = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, scores, classes.float()], 1)
        return rows[scores > score_thresh]

    def test_gives_the_released_values(self, golden):
        values = golden("decode")
        maps = (values[name][0] for name in ("heatmap", "wh", "offset"))
        detections = self.detect(*maps, values["topk"].item(), values["score_thresh"].item())
        torch.testing.assert_close(detections, values["detections_cxcywh_score_class_stride4"], atol=1e-5, rtol=0)

    @pytest.mark.parametrize("topk, score_thresh", [(1, 0.0), (20, 0.5), (10_000, 0.0), (10_000, 0.95)])
    def test_equals_the_reference(self, topk, score_thresh):
        generator = torch.Generator().manual_seed(topk)
        heatmap, wh, offset = (torch.rand(k, 12, 17, generator=generator) for k in (3, 2, 2))
        expected = reference.decode_centers(heatmap, 5 * wh, offset, topk, score_thresh)
        assert len(expected)
        detections = self.detect(heatmap, 5 * wh, offset, topk, score_thresh)
        torch.testing.assert_close(detections, expected, atol=1e-5, rtol=0)

    def test_peaks_of_logits_are_those_of_probabilities(self):
        logits = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))
        scores, classes, cell = find_peaks(logits, 12)
        probabilities, *same = find_peaks(logits.sigmoid(), 12)
        torch.testing.assert_close(scores.sigmoid(), probabilities)
        assert torch.equal(classes, same[0]) and torch.equal(cell, same[1])

    def test_a_slope_has_its_peak_at_the_border_and_nowhere_else(self):
        ramp = torch.arange(5.0).expand(1, 1, 4, 5) - 0.1 * torch.arange(4.0)[:, None]
        assert self.peaks(ramp) == [4]

    @staticmethod
    def peaks(heatmap):
        scores, _, cell = find_peaks(heatmap, 100)
        return sorted(cell[scores > torch.finfo(scores.dtype).min].tolist())

    def test_a_flat_area_is_one_peak(self):
        heatmap = torch.rand(1, 1, 12, 15, generator=torch.Generator().manual_seed(0)).mul(0.1)
        heatmap[..., 2:6, 3:9] = 0.5
        heatmap[..., 8:11, 0:15] = 0.4
        heatmap[..., 7:9, 13] = 0.4
        flat = [2 * 15 + 3, 7 * 15 + 13, 8 * 15]
        scores, _, cell = find_peaks(heatmap, 100)
        assert sorted(cell[scores > 0.3].tolist()) == flat
        assert self.peaks(torch.full((1, 1, 9, 9), -3.0)) == [0]

    def test_without_ties_peaks_are_the_maxima_of_their_3_by_3_cells(self):
        heatmap = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))
        scores, classes, cell = find_peaks(heatmap, 300)
        found = torch.zeros_like(heatmap, dtype=torch.bool)
        for n in range(2):
            kept = scores[n] > torch.finfo(scores.dtype).min
            found[n].view(3, -1)[classes[n][kept], cell[n][kept]] = True
        assert torch.equal(found, torch.nn.functional.max_pool2d(heatmap, 3, 1, 1) == heatmap)

    def test_values_that_are_no_numbers_are_no_peaks(self):
        heatmap = torch.full((1, 1, 4, 5), float("nan"))
        assert self.peaks(heatmap) == []
        heatmap[..., 2:, 3:] = -torch.inf
        assert self.peaks(heatmap) == []


def test_cells_without_a_pixel_of_their_image_are_outside():
    inside = inside_cells([(9, 12), (16, 1)], 4, 5, STRIDE, "cpu")
    assert inside.int().tolist() == [
        [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]],
        [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]],
    ]
