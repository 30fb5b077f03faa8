import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2.structures.ragged_grid import RaggedGrid, split_by_area

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


def test_prefix_and_select_take_the_pixels_along():
    grid = make_grid([(2, 3), (1, 1), (4, 2)])
    values = torch.arange(grid.num_pixels)[:, None]
    prefix = grid.prefix(2)
    assert prefix.num_pixels == 7 and grid.prefix(3) is grid and grid.prefix(2) is prefix
    selected, rows = grid.select(torch.tensor([2, 0]))
    parts = selected.split(values[rows])
    assert parts[0].shape == (4, 2, 1) and parts[0].flatten().tolist() == list(range(7, 15))
    assert parts[1].flatten().tolist() == list(range(6))


def test_slice_takes_the_pixels_along():
    grid = make_grid([(2, 3), (1, 1), (4, 2)])
    part, pixels = grid.slice(1, 3)
    assert part.heights.tolist() == [1, 4] and pixels == slice(6, 15)
    assert grid.slice(0, 0)[0].num_pixels == 0


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 100))
def test_parts_are_about_as_large_as_asked(areas, limit):
    lengths = split_by_area(torch.tensor(areas, dtype=torch.int64), limit)
    assert sum(lengths) == len(areas)
    begin = 0
    for length in lengths:
        assert length > 0 and sum(areas[begin : begin + length - 1]) < limit
        begin += length
    assert len(lengths) <= sum(areas) // limit + 1


def test_mean_is_over_the_pixels_of_each():
    grid = make_grid([(2, 1), (1, 3)])
    assert grid.mean(torch.tensor([[1.0], [3], [3], [4], [8]]))[:, 0].tolist() == [2, 5]
