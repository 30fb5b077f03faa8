import re
from pathlib import Path

import numpy as np
import pytest

from objguided_d2.engine.ablation import METRICS
from objguided_d2.engine.strategies import Strategy
from objguided_d2.evaluation.matched_detections import MatchedDetections
from objguided_d2.report.plots import COLORS, plot_ablation, plot_f1_by_score, plot_training, write_svg
from objguided_d2.report.runs import Run
from objguided_d2.report.scores import Scores


def runs(*values: float) -> list[dict[str, float]]:
    return [dict.fromkeys(METRICS, value) for value in values]


def bars(svg: str) -> dict[str, list[float]]:
    """Color -> signed lengths of its bars, from where all bars start."""
    found = {}
    for path, color in re.findall(r'<path d="([^"]*z)[^"]*" clip-path="[^"]*" style="fill: (#\w+)', svg):
        corners = [float(x) for x in re.findall(r"[ML] ([-\d.]+)", path)]
        found.setdefault(color, []).append(corners[1] - corners[0])
    return found


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_bars_start_at_the_first_strategy_and_are_as_long_as_the_difference():
    svg = plot_ablation({Strategy(0, 0): runs(40, 42), Strategy(1, 1): runs(40, 40), Strategy(3, 0.75): runs(42, 44)})
    found = bars(svg)
    assert found["#808080"] == [0] * len(METRICS)
    uniform, uncertain = found[COLORS[0]], found[COLORS[1]]
    assert all(length < 0 for length in uniform)
    # 1 below and 2 above the first.
    assert uncertain == pytest.approx([-2 * length for length in uniform])


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_every_strategy_has_its_name_and_numbers():
    svg = plot_ablation({Strategy(0, 0): runs(40, 42), Strategy(3, 3): runs(50)})
    for text in ("no refinement", "Uniform (3, 3)", "AP^seg, %"):
        assert svg.count(f">{text}</text>") == 1
    # One seed has no spread.
    assert svg.count(">41.0 ± 1.4</text>") == svg.count(">50.0</text>") == len(METRICS)


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_one_strategy_and_one_seed_make_a_plot():
    assert ">Moderately Biased (3, 0.75)</text>" in plot_ablation({Strategy(3, 0.75): runs(0.0)})


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_best_f1_and_its_score_are_in_the_legend():
    # From 0.5 on, three of four detections find three of four objects: 2 * 3 / (4 + 4).
    values, true = np.array([0.9, 0.8, 0.7, 0.5, 0.2]), np.array([[True, True, False, True, False]])
    matched = MatchedDetections(values, np.zeros(5, int), true, np.zeros((1, 5), bool), np.array([4]))
    objects = np.zeros((0, 4))
    methods = {"found": Scores({}, [matched], {}, objects, 0.3), "empty": Scores({}, [], {}, objects, 0.3)}
    legend = re.findall(r">([^<>]*: [^<>]*)</text>", plot_f1_by_score(methods))
    assert legend == ["found: 75.0 from 0.21"]


def test_training_is_drawn_where_a_run_was_evaluated_before_its_end():
    points = [(10, 1.0, {"segm/AP": 30.0}), (20, 2.0, {"segm/AP": 40.0})]
    long, short = (
        Run(name, Path(name), {}, curve=curve, minutes=2.0) for name, curve in (("a", points), ("b", points[1:]))
    )
    assert plot_training([short]) is plot_training([]) is None
    svg = plot_training([long, short])
    assert svg.count(">a</text>") == svg.count(">b</text>") == 1


def test_file_of_its_own_is_dark_on_white(tmp_path):
    svg = plot_ablation({Strategy(3, 0.75): runs(40)})
    assert "currentColor" in svg
    write_svg(tmp_path / "new" / "ablation.svg", svg)
    written = (tmp_path / "new" / "ablation.svg").read_text()
    assert written.startswith('<svg style="background: #ffffff" ') and "currentColor" not in written
    assert len(written) == len(svg.replace("currentColor", "#222222")) + len('style="background: #ffffff" ')
