import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2.structures.ragged_grid import RaggedGrid

sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12)


def make_grid(pairs: list[tuple[int, int]], device: str | torch.device = "cpu") -> RaggedGrid:
    heights, widths = torch.tensor(pairs).unbind(1)
    return RaggedGrid(heights, widths, torch.device(device))


@given(sizes)
@settings(deadline=None, max_examples=50)
def test_pixels_list_every_rectangle_row_by_row(pairs):
    grid = make_grid(pairs)
    expected = [(r, y, x) for r, (h, w) in enumerate(pairs) for y in range(h) for x in range(w)]
    assert list(zip(*(part.tolist() for part in grid.pixels))) == expected


@given(sizes)
@settings(deadline=None, max_examples=50)
def test_canvas_keeps_rectangles_one_pixel_apart(pairs):
    grid = make_grid(pairs)
    height, width, index = grid.canvas
    plane = torch.full((height * width,), -1)
    plane[index] = grid.pixels.roi
    plane = plane.view(height, width)
    assert (plane >= 0).sum() == grid.num_pixels
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        a, b = plane[: height - dy, : width - dx], plane[dy:, dx:]
        assert not ((a >= 0) & (b >= 0) & (a != b)).any()


@given(sizes)
@settings(deadline=None, max_examples=20)
def test_convolution_and_norm_equal_those_of_each_rectangle_by_itself(pairs):
    grid = make_grid(pairs)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(grid.num_pixels, 3, generator=generator)
    weight, bias = torch.randn(5, 3, 3, 3, generator=generator), torch.randn(5, generator=generator)
    for one, all_at_once in zip(grid.split(values), grid.split(grid.conv2d(values, weight, bias))):
        expected = F.conv2d(one.permute(2, 0, 1)[None], weight, bias, padding=1)[0].permute(1, 2, 0)
        torch.testing.assert_close(all_at_once, expected, atol=1e-4, rtol=1e-4)
    for one, all_at_once in zip(grid.split(values), grid.split(grid.instance_norm(values, None, None, 1e-5))):
        flat = one.flatten(0, 1)
        expected = (one - flat.mean(0)) / (flat.var(0, unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(all_at_once, expected, atol=1e-4, rtol=1e-3)


def test_prefix_and_select_take_the_pixels_along():
    grid = make_grid([(2, 3), (1, 1), (4, 2)])
    values = torch.arange(grid.num_pixels)[:, None]
    prefix = grid.prefix(2)
    assert prefix.num_pixels == 7 and grid.prefix(3) is grid and grid.prefix(2) is prefix
    selected, rows = grid.select(torch.tensor([2, 0]))
    parts = selected.split(values[rows])
    assert parts[0].shape == (4, 2, 1) and parts[0].flatten().tolist() == list(range(7, 15))
    assert parts[1].flatten().tolist() == list(range(6))


def test_an_empty_grid_keeps_the_graph():
    grid = RaggedGrid(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.device("cpu"))
    weight = torch.randn(5, 3, 3, 3, requires_grad=True)
    out = grid.conv2d(torch.zeros(0, 3), weight, None)
    assert out.shape == (0, 5)
    out.sum().backward()
    assert weight.grad.abs().sum() == 0


def test_convolution_runs_on_the_device_of_its_values(device):
    grid = make_grid([(4, 7), (3, 2)], device)
    out = grid.conv2d(torch.ones(grid.num_pixels, 1, device=device), torch.ones(1, 1, 3, 3, device=device), None)
    assert out.device.type == device.type
    assert [part.amax().item() for part in grid.split(out)] == [9.0, 6.0]
