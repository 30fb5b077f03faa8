"""Filters that could leave nothing are refused; what filters do is in test_predictor.py."""

import pytest

from objguided_d2.inference.filters import Filters
from objguided_d2.inference.predict_command import main


@pytest.mark.parametrize(
    "areas, message",
    [
        ({"min_area": float("nan")}, "min_area: nan must be a number of pixels"),
        ({"min_area": float("inf")}, "min_area: inf must be"),
        ({"min_area": -1}, "min_area: -1 must be"),
        ({"max_area": float("nan")}, "max_area: nan must be"),
        ({"min_area": 100, "max_area": 50}, "max_area: 50 is below min_area: 100"),
    ],
)
def test_areas_that_no_object_can_have_are_refused(areas, message):
    with pytest.raises(ValueError, match=message):
        Filters(**areas)


def test_equal_areas_and_none_are_valid():
    Filters(min_area=50, max_area=50), Filters(max_area=0), Filters(max_area=None)


@pytest.mark.parametrize("arguments", [["--min-area", "nan"], ["--min-area", "100", "--max-area", "50"]])
def test_the_command_says_it_in_one_line(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(["x.png", "--model", "nuclei", "--output", str(tmp_path / "out"), *arguments])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2 and "error: " in last and "min_area" in last
