import pytest

from objguided_d2.utils.evenly_spaced import evenly_spaced


@pytest.mark.parametrize(
    "num_items, count, expected",
    [(9, 3, [0, 4, 8]), (10, 4, [0, 3, 6, 9]), (3, 3, [0, 1, 2]), (2, 12, [0, 1]), (5, 1, [0]), (0, 4, [])],
)
def test_from_the_first_to_the_last_and_none_twice(num_items, count, expected):
    assert evenly_spaced(range(num_items), count) == expected
