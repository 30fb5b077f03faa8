import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from objguided_d2 import get_cfg
from objguided_d2.cli import main
from objguided_d2.engine import suite
from objguided_d2.engine.ablation import METRICS, AblationError, read_ablation, run_ablation
from objguided_d2.engine.strategies import STRATEGIES, Strategy
from tests.engine.train_command import write_config


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("VERSION: 2\nDATASETS: {TEST: \"('toy_val',)\"}\n")
    return path


@pytest.fixture
def runs(monkeypatch):
    """Commands that would have been run; each writes what a run writes, unless told to fail."""
    commands = []

    def run(command):
        commands.append(command)
        options = dict(zip(command[command.index("SEED") :: 2], command[command.index("SEED") + 1 :: 2]))
        folder = Path(options["OUTPUT_DIR"])
        write_config(command, folder)
        if getattr(run, "fail", False):
            raise subprocess.CalledProcessError(1, command)
        results = dict.fromkeys(METRICS, 40.0 + int(options["SEED"]))
        lines = [{"iteration": 9, "images_seen": 80.0}, {"iteration": 10, **results}]
        (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
        (folder / "model_final.pth").write_bytes(b"")

    monkeypatch.setattr(suite, "run_command", run)
    run.commands = commands
    return run


def test_every_strategy_is_a_valid_config():
    for strategy in STRATEGIES:
        cfg = get_cfg()
        cfg.merge_from_list(strategy.options)
        refine = cfg.MODEL.ROI_MASK_HEAD.REFINE
        assert refine.ENABLED == (strategy.k > 0)
        assert not refine.ENABLED or (refine.K, refine.BETA) == (strategy.k, strategy.beta)
        assert Strategy.parse(str(strategy)) == Strategy.parse(strategy.slug) == strategy


def test_the_strategies_are_those_of_the_paper():
    assert {str(strategy): (strategy.k, strategy.beta) for strategy in STRATEGIES} == {
        "none": (0, 0),
        "Uniform_small": (1, 1),
        "Biased_small": (1, 0.5),
        "Uniform": (3, 3),
        "Mildly Biased": (3, 2),
        "Slightly Biased": (3, 1),
        "Moderately Biased": (3, 0.75),
        "Greatly Biased": (5, 0.75),
        "Heavily Biased": (10, 0.75),
    }
    defaults = get_cfg().MODEL.ROI_MASK_HEAD.REFINE
    assert str(Strategy(defaults.K, defaults.BETA)) == "Moderately Biased"
    assert {strategy.kind for strategy in STRATEGIES[1:]} == {"uniform", "uncertain"}


def test_other_numbers_are_refused():
    with pytest.raises(ValueError, match="Table II"):
        Strategy(6, 0.75)


@pytest.mark.parametrize("text", ["", "3,0.75", "biased", "Uniform-small"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="strategy"):
        Strategy.parse(text)


def test_table_has_mean_and_spread_over_seeds(runs, config, tmp_path):
    table = run_ablation(config, tmp_path, [Strategy(0, 0), Strategy(3, 0.75)], [1, 3], ["SOLVER.MAX_MINUTES", "5.0"])
    assert len(runs.commands) == 4
    assert all("SOLVER.MAX_MINUTES" in command and "--resume" in command for command in runs.commands)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert rows[0] == ["none", "", "", "2", *["42.0 ± 1.4"] * 5, "80"]
    assert rows[1][:4] == ["Moderately Biased", "3", "0.75", "2"]
    assert (tmp_path / "table.md").read_text() == table + "\n"


def test_results_are_read_as_they_were_written(runs, config, tmp_path):
    run_ablation(config, tmp_path, STRATEGIES, [1, 3], [])
    results = read_ablation(tmp_path / "ablation.json")
    assert results == {s: [dict.fromkeys(METRICS, 41.0), dict.fromkeys(METRICS, 43.0)] for s in STRATEGIES}
    assert list(results) == list(STRATEGIES)
    written = json.loads((tmp_path / "ablation.json").read_text())
    assert [(run["seed"], run["images_seen"]) for run in written["Moderately Biased"]] == [(1, 80), (3, 80)]


def test_command_draws_bars_beside_the_table(runs, tmp_path, monkeypatch):
    # The order in which options that take several values would swallow the pairs.
    options = ["--output", str(tmp_path), "--strategies", "none uniform", "--seeds", "1,3", "SOLVER.MAX_MINUTES", "2.0"]
    monkeypatch.setattr(sys, "argv", ["ablate.py", *options])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(Path(__file__).parents[2] / "tools/ablate.py"), run_name="__main__")
    assert "Uniform (3, 3)" in (tmp_path / "ablation.svg").read_text()
    assert len(runs.commands) == 4 and all("SOLVER.MAX_MINUTES" in command for command in runs.commands)
    assert (tmp_path / "table.md").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "FileNotFoundError"),
        ("| k | beta |", "JSONDecodeError"),
        ("[]", "AttributeError"),
        ("{}", "no strategies"),
        ('{"Uniform": []}', "a strategy without runs"),
        ('{"3,0.75": [{}]}', "strategy '3,0.75'"),
        ('{"none": [{"segm/AP": 40.0}]}', "segm/AP50"),
        ('{"none": [{"segm/AP": null}]}', "TypeError"),
    ],
)
def test_other_files_are_refused_by_name_with_what_to_do(tmp_path, content, reason):
    path = tmp_path / "some.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AblationError, match="some.json does not hold .* give the ablation.json") as found:
        read_ablation(path)
    assert reason in str(found.value)


def test_what_has_ended_is_not_repeated(runs, config, tmp_path):
    strategies = [Strategy(1, 1), Strategy(3, 3)]
    run_ablation(config, tmp_path, strategies[:1], [1], [])
    runs.fail = True
    with pytest.raises(subprocess.CalledProcessError):
        run_ablation(config, tmp_path, strategies, [1], [])
    runs.fail = False
    run_ablation(config, tmp_path, strategies, [1], [])
    assert [command[command.index("OUTPUT_DIR") + 1] for command in runs.commands] == [
        str(tmp_path / name / "seed_1") for name in ("uniform_small", "uniform", "uniform")
    ]


def test_a_killed_run_that_left_half_a_line_goes_on(runs, config, tmp_path):
    folder = tmp_path / "uniform" / "seed_1"
    run_ablation(config, tmp_path, [Strategy(3, 3)], [1], [])
    with (folder / "metrics.json").open("a") as file:
        file.write('\n{"iteration": 12, "segm')
    run_ablation(config, tmp_path, [Strategy(3, 3)], [1], [])
    assert len(runs.commands) == 1
    (folder / "metrics.json").write_text('{"iterat\n{"iteration": 10}\n')
    with pytest.raises(AblationError, match="metrics.json, line 1 is no JSON .*; remove that line"):
        run_ablation(config, tmp_path, [Strategy(3, 3)], [1], [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategies", "none", "SOLVER.MAX_ITER", "7"], "SOLVER.MAX_ITER 40000 (now 7); set that back"),
        (["TEST.EVALUATORS", "['coco']"], "TEST.EVALUATORS ['coco'] lacks voc2010"),
        (["DATASETS.TEST", "()"], "DATASETS.TEST has 0 datasets"),
        (["SOLVER.MAX_ITERS", "7"], "did you mean SOLVER.MAX_ITER"),
        (["SEED", "2"], "KEY VALUE pairs cannot set SEED: give --seeds"),
        (["OUTPUT_DIR", "x"], "KEY VALUE pairs cannot set OUTPUT_DIR: give --output"),
        (["MODEL.ROI_MASK_HEAD.REFINE.BETA", "0.5"], "cannot set MODEL.ROI_MASK_HEAD.REFINE.BETA: give --strategies"),
        (["--strategies", ""], "'' names no strategy"),
        (["--strategies", "none uniform none"], "names a strategy twice"),
        (["--seeds", "1,1"], "'1,1' names a seed twice"),
    ],
)
def test_what_cannot_become_a_table_is_refused_before_any_training(runs, config, tmp_path, capsys, options, message):
    run_ablation(config, tmp_path, [Strategy(0, 0)], [1], [])
    command = ["ablate", "--config-file", str(config), "--output", str(tmp_path), "--seeds", "1", *options]
    try:
        assert main(command) == 1
    except SystemExit as end:
        assert end.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1] and len(runs.commands) == 1


def test_a_run_that_ends_without_results_is_named(runs, config, tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "run_command", lambda command: None)
    with pytest.raises(AblationError, match="seed_1 has ended without segm/AP, .* one dataset with annotations"):
        run_ablation(config, tmp_path, [Strategy(0, 0)], [1], [])
