import json
import subprocess
from pathlib import Path

import pytest

from objguided_d2 import get_cfg
from objguided_d2.engine.ablation import METRICS, STRATEGIES, Strategy, run_ablation


@pytest.fixture
def runs(monkeypatch):
    """Commands that would have been run; each writes what a run writes, unless told to fail."""
    commands = []

    def run(command, check):
        commands.append(command)
        options = dict(zip(command[command.index("SEED") :: 2], command[command.index("SEED") + 1 :: 2]))
        folder = Path(options["OUTPUT_DIR"])
        folder.mkdir(parents=True, exist_ok=True)
        if getattr(run, "fail", False):
            raise subprocess.CalledProcessError(1, command)
        results = dict.fromkeys(METRICS, 40.0 + int(options["SEED"]))
        lines = [{"iteration": 9, "images_seen": 80.0}, {"iteration": 10, **results}]
        (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
        (folder / "model_final.pth").write_bytes(b"")

    monkeypatch.setattr(subprocess, "run", run)
    run.commands = commands
    return run


def test_every_strategy_is_a_valid_config():
    for strategy in STRATEGIES:
        cfg = get_cfg()
        cfg.merge_from_list(strategy.options)
        refine = cfg.MODEL.ROI_MASK_HEAD.REFINE
        assert refine.ENABLED == (strategy.k > 0)
        assert not refine.ENABLED or (refine.K, refine.BETA) == (strategy.k, strategy.beta)
        assert Strategy.parse(str(strategy)) == strategy
    assert len(set(STRATEGIES)) == 9 and Strategy(3, 0.75) in STRATEGIES


@pytest.mark.parametrize("text", ["", "3", "3,4", "3,0", "a,b", "1,2,3"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="strategy"):
        Strategy.parse(text)


def test_table_has_mean_and_spread_over_seeds(runs, tmp_path):
    table = run_ablation(
        Path("c.yaml"), tmp_path, [Strategy(0, 0), Strategy(3, 0.75)], [1, 3], ["SOLVER.MAX_MINUTES", "5.0"]
    )
    assert len(runs.commands) == 4
    assert all("SOLVER.MAX_MINUTES" in command and "--resume" in command for command in runs.commands)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert rows[0] == ["none", "", "2", *["42.0 ± 1.4"] * 5, "80"]
    assert rows[1][:3] == ["3", "0.75", "2"]
    assert (tmp_path / "table.md").read_text() == table + "\n"


def test_what_has_ended_is_not_repeated(runs, tmp_path):
    strategies = [Strategy(1, 1), Strategy(3, 3)]
    run_ablation(Path("c.yaml"), tmp_path, strategies[:1], [1], [])
    runs.fail = True
    with pytest.raises(subprocess.CalledProcessError):
        run_ablation(Path("c.yaml"), tmp_path, strategies, [1], [])
    runs.fail = False
    run_ablation(Path("c.yaml"), tmp_path, strategies, [1], [])
    assert [command[command.index("OUTPUT_DIR") + 1] for command in runs.commands] == [
        str(tmp_path / name / "seed_1") for name in ("1,1", "3,3", "3,3")
    ]
