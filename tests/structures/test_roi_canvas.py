import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2.structures.ragged_grid import RaggedGrid
from objguided_d2.structures.roi_canvas import RoiCanvas

sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


def make_canvas(pairs: list[tuple[int, int]], num_prefix: int | None = None, device="cpu") -> RoiCanvas:
    heights, widths = torch.tensor(pairs).unbind(1)
    grid = RaggedGrid(heights.contiguous(), widths.contiguous(), torch.device(device))
    return RoiCanvas(grid, len(pairs) if num_prefix is None else num_prefix)


@given(sizes, st.integers(0, 12))
@settings(deadline=None, max_examples=50)
def test_every_pixel_has_a_cell_and_rois_lie_apart(pairs, num_prefix):
    num_prefix = min(num_prefix, len(pairs))
    canvas = make_canvas(pairs, num_prefix)
    plane = torch.full((canvas.num_cells,), len(pairs))
    plane[canvas.pixel_cells] = canvas.grid.pixels.roi
    assert (plane < len(pairs)).sum() == canvas.grid.num_pixels
    assert torch.equal(plane, canvas.roi)
    plane = plane.view(canvas.height, canvas.width)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        a, b = plane[: canvas.height - dy, : canvas.width - dx], plane[dy:, dx:]
        assert not ((a < len(pairs)) & (b < len(pairs)) & (a != b)).any()
    first = plane[: canvas.prefix_height].unique()
    assert set(first[first < len(pairs)].tolist()) == set(range(num_prefix))


@given(sizes)
@settings(deadline=None, max_examples=50)
def test_lines_of_cells_are_the_rows_and_columns_of_their_rois(pairs):
    canvas = make_canvas(pairs)
    row, column = (lines[canvas.pixel_cells] for lines in canvas.lines_of_cells)
    roi, y, x = canvas.grid.pixels
    assert torch.equal(canvas.rows.roi[row], roi) and torch.equal(canvas.rows.position[row], y)
    assert torch.equal(canvas.columns.roi[column], roi) and torch.equal(canvas.columns.position[column], x)
    gutter = canvas.roi == len(pairs)
    assert (canvas.lines_of_cells[0][gutter] == sum(h for h, _ in pairs)).all()
    assert (canvas.lines_of_cells[1][gutter] == sum(w for _, w in pairs)).all()


def test_like_rois_fill_most_of_their_canvas():
    generator = torch.Generator().manual_seed(0)
    canvas = make_canvas(torch.randint(30, 50, (60, 2), generator=generator).tolist())
    assert canvas.grid.num_pixels > 0.87 * canvas.num_cells


@given(sizes)
@settings(deadline=None, max_examples=20)
def test_convolutions_and_norm_equal_those_of_each_roi_by_itself(pairs):
    canvas = make_canvas(pairs)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(canvas.grid.num_pixels, 3, generator=generator)
    weight, bias = torch.randn(5, 3, 3, 3, generator=generator), torch.randn(5, generator=generator)
    on_canvas = canvas.from_list(values)
    torch.testing.assert_close(on_canvas.sum(), values.sum(), atol=1e-4, rtol=0)

    def rois(result):
        return canvas.grid.split(canvas.to_list(result))

    alone = [part.permute(2, 0, 1)[None] for part in canvas.grid.split(values)]
    for one, all_at_once in zip(alone, rois(canvas.conv3x3(on_canvas, weight, bias))):
        expected = F.conv2d(one, weight, bias, padding=1)[0].permute(1, 2, 0)
        torch.testing.assert_close(all_at_once, expected, atol=1e-4, rtol=1e-4)
    for one, all_at_once in zip(alone, rois(canvas.conv3x3_to_one(on_canvas, weight[:1], bias[:1]))):
        expected = F.conv2d(one, weight[:1], bias[:1], padding=1)[0].permute(1, 2, 0)
        torch.testing.assert_close(all_at_once, expected, atol=1e-4, rtol=1e-4)
    for one, all_at_once in zip(canvas.grid.split(values), rois(canvas.norm_relu(on_canvas, None, None, 1e-5))):
        flat = one.flatten(0, 1)
        expected = F.relu((one - flat.mean(0)) / (flat.var(0, unbiased=False) + 1e-5).sqrt())
        torch.testing.assert_close(all_at_once, expected, atol=1e-4, rtol=1e-3)


def test_the_prefix_is_processed_by_itself():
    canvas = make_canvas([(4, 5), (3, 3), (6, 2), (1, 1)], num_prefix=2)
    values = canvas.from_list(torch.randn(canvas.grid.num_pixels, 2))
    first = values[: canvas.num_prefix_cells]
    whole = canvas.norm_relu(values, None, None, 1e-5)[: canvas.num_prefix_cells]
    inside = canvas.roi[: canvas.num_prefix_cells] < 2
    torch.testing.assert_close(canvas.norm_relu(first, None, None, 1e-5)[inside], whole[inside])
    weight = torch.randn(3, 2, 3, 3)
    whole = canvas.conv3x3(values, weight, None)[: canvas.num_prefix_cells]
    torch.testing.assert_close(canvas.conv3x3(first, weight, None)[inside], whole[inside])


def test_no_rois_make_an_empty_canvas():
    none = torch.empty(0, dtype=torch.int64)
    canvas = RoiCanvas(RaggedGrid(none, none, torch.device("cpu")), 0)
    assert canvas.num_cells == canvas.num_prefix_cells == 0
    assert canvas.from_list(torch.zeros(0, 3)).shape == (0, 3)


def test_work_stays_on_the_device_of_its_values(device):
    canvas = make_canvas([(4, 7), (3, 2)], device=device)
    out = canvas.conv3x3(canvas.inside, torch.ones(1, 1, 3, 3, device=device), None)
    assert out.device.type == device.type
    assert [part.amax().item() for part in canvas.grid.split(canvas.to_list(out))] == [9.0, 6.0]
