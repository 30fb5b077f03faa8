import re

import pytest

from objguided_d2.engine.ablation import METRICS, Strategy
from objguided_d2.report.plots import COLORS, plot_ablation, write_svg


def runs(*values: float) -> list[dict[str, float]]:
    return [dict.fromkeys(METRICS, value) for value in values]


def bars(svg: str) -> dict[str, list[float]]:
    """Colour -> signed lengths of its bars, from where all bars start."""
    found = {}
    for path, color in re.findall(r'<path d="([^"]*z)[^"]*" clip-path="[^"]*" style="fill: (#\w+)', svg):
        corners = [float(x) for x in re.findall(r"[ML] ([-\d.]+)", path)]
        found.setdefault(color, []).append(corners[1] - corners[0])
    return found


@pytest.mark.filterwarnings("error")
def test_bars_start_at_the_first_strategy_and_are_as_long_as_the_difference():
    svg = plot_ablation({Strategy(0, 0): runs(40, 42), Strategy(1, 1): runs(40, 40), Strategy(3, 0.75): runs(42, 44)})
    found = bars(svg)
    assert found["#808080"] == [0] * len(METRICS)
    uniform, uncertain = found[COLORS[0]], found[COLORS[1]]
    assert all(length < 0 for length in uniform)
    # 1 below and 2 above the first.
    assert uncertain == pytest.approx([-2 * length for length in uniform])


@pytest.mark.filterwarnings("error")
def test_every_strategy_has_its_name_and_numbers():
    svg = plot_ablation({Strategy(0, 0): runs(40, 42), Strategy(3, 3): runs(50)})
    for text in ("no refinement", "uniform (3, 3)", "AP^seg, %"):
        assert svg.count(f">{text}</text>") == 1
    # One seed has no spread.
    assert svg.count(">41.0 ± 1.4</text>") == svg.count(">50.0</text>") == len(METRICS)


@pytest.mark.filterwarnings("error")
def test_one_strategy_and_one_seed_make_a_plot():
    assert ">uncertain (3, 0.75)</text>" in plot_ablation({Strategy(3, 0.75): runs(0.0)})


def test_file_of_its_own_has_a_dark_text_colour(tmp_path):
    svg = plot_ablation({Strategy(3, 0.75): runs(40)})
    assert "currentColor" in svg
    write_svg(tmp_path / "new" / "ablation.svg", svg)
    assert (tmp_path / "new" / "ablation.svg").read_text() == svg.replace("currentColor", "#222222")
