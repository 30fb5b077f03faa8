"""The rows of Table I: what is run for each kind of data, and what a second call leaves out."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import table1
from objguided_d2.engine import suite as suite_module
from tests.engine.train_command import without_data, write_config


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Commands that would have been run; each leaves what it would have written, unless one holds ``run.failing``."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # main sets it: restored after the test

    def run(command):
        run.found.append(list(command))
        folder = Path(command[command.index("OUTPUT_DIR" if "OUTPUT_DIR" in command else "--output") + 1])
        run.unfinished.append(folder.exists())
        folder.mkdir(parents=True, exist_ok=True)
        if run.failing and run.failing in command:
            raise subprocess.CalledProcessError(1, command)
        if "--config-file" in command:
            write_config(command, folder)
        (folder / "model_final.pth").touch()

    run.found, run.failing, run.unfinished = [], "", []
    monkeypatch.setattr(table1, "run_command", run)
    monkeypatch.setattr(suite_module, "run_command", run)
    monkeypatch.setattr(suite_module, "checked_config", without_data)
    return run


def main(tmp_path, *options):
    return table1.main(["--output", str(tmp_path / "out"), "--threads", "3", *options])


def test_the_table_has_nine_methods_of_three_kinds():
    table = table1.Table.read("suite_table1")
    assert [(kind.name, kind.minutes) for kind in table.kinds] == [("dsb2018", 40), ("lsc", 20), ("neurons", 20)]
    for kind in table.kinds:
        assert len(kind.suite.configs) + len(table.peers) == 9
        assert kind.suite.configs[0].stem == "objguided_small_R_18"


def test_systems_train_first_then_peers_and_the_page_has_all(commands, tmp_path):
    assert main(tmp_path, "--only", "lsc", "--peers-python", "other/python") == 0
    systems, peers, (comparison,) = commands.found[:7], commands.found[7:11], commands.found[11:]
    for command in systems:
        assert command[command.index("SOLVER.MAX_MINUTES") + 1] == "20.0"
    assert [command[:4] for command in peers] == [
        ["other/python", "-m", f"benchmarks.peers.{step}", peer]
        for peer in ("stardist", "cellpose")
        for step in ("train", "predict")
    ]
    train, predict = peers[:2]
    assert train[train.index("--annotations") + 1].endswith("lsc/annotations/lsc_train.json")
    assert predict[predict.index("--annotations") + 1].endswith("lsc/annotations/lsc_val.json")
    assert train[train.index("--minutes") + 1] == "20.0" and train[train.index("--threads") + 1] == "3"
    rows = comparison[4 : comparison.index("--dataset")]
    assert len(rows) == 9 and rows[-2:] == [str(tmp_path / "out/lsc" / peer) for peer in ("stardist", "cellpose")]
    assert all(Path(row).is_dir() for row in rows)


def test_a_failed_peer_is_run_again_and_nothing_else(commands, tmp_path, capsys):
    commands.failing = "benchmarks.peers.predict"
    options = ("--only", "neurons", "--minutes", "1", "--peers-python", "python")
    assert main(tmp_path, *options) == 1
    assert "benchmarks.peers.predict stardist" in capsys.readouterr().err
    commands.failing, commands.found[:], commands.unfinished[:] = "", [], []
    assert main(tmp_path, *options) == 0
    modules = [command[2] for command in commands.found]
    assert modules == ["benchmarks.peers.predict", "benchmarks.peers.train", "benchmarks.peers.predict", "objguided_d2"]
    assert commands.unfinished[0], "a prediction goes on from the images that it has"


def test_an_interrupted_training_of_a_peer_starts_anew(commands, tmp_path):
    commands.failing = "benchmarks.peers.train"
    options = ("--only", "neurons", "--minutes", "1", "--peers-python", "python")
    assert main(tmp_path, *options) == 1
    commands.failing, commands.unfinished[:] = "", []
    assert main(tmp_path, *options) == 0
    assert not commands.unfinished[0]


def test_images_are_a_budget_of_the_systems_alone(commands, tmp_path):
    assert main(tmp_path, "--only", "lsc", "--images", "100", "--peers-python", "python") == 0
    assert len(commands.found) == 8
    assert all(command[command.index("SOLVER.MAX_ITER") + 1] == "25" for command in commands.found[:7])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("kinds: []", "peers"),
        ("kinds: [{suite: lsc/suite_table1}]\npeers: []", "minutes"),
        ("kinds: [", "suite.yaml cannot be read: line 1, column 9: "),
    ],
)
def test_an_incomplete_table_is_named(tmp_path, capsys, content, message):
    (tmp_path / "suite.yaml").write_text(content)
    assert main(tmp_path, "--suite", str(tmp_path / "suite.yaml")) == 1
    assert message in capsys.readouterr().err


def test_unknown_peers_and_datasets_are_named(tmp_path, capsys):
    (tmp_path / "suite.yaml").write_text("kinds: []\npeers: [unet]")
    assert main(tmp_path, "--suite", str(tmp_path / "suite.yaml")) == 1
    assert "unet" in capsys.readouterr().err
    assert main(tmp_path, "--only", "moons") == 1
    assert "dsb2018, lsc, neurons" in capsys.readouterr().err
