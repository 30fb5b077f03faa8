import signal
import subprocess
import sys
from pathlib import Path

import pytest

from objguided_d2.data.builtin import _DATASETS
from objguided_d2.engine import suite as suite_module
from objguided_d2.engine.errors import ConfigError, Interruption
from objguided_d2.engine.suite import Suite, run_command, train_suite
from tests.engine.train_command import without_data, write_config

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def commands(monkeypatch):
    """Commands that would have been run; each leaves final weights, unless told to fail."""
    found = []

    def run(command):
        found.append(command)
        if getattr(run, "fail", False):
            raise subprocess.CalledProcessError(1, command)
        folder = Path(command[command.index("OUTPUT_DIR") + 1])
        write_config(command, folder)
        (folder / "model_final.pth").write_bytes(b"")

    monkeypatch.setattr(suite_module, "run_command", run)
    monkeypatch.setattr(suite_module, "checked_config", without_data)
    run.found = found
    return run


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.glob("*/suite_*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS))
)
def test_suites_name_configs_and_data_that_exist(path):
    suite = Suite.read(path)
    assert len(suite.configs) >= 2 and suite.dataset.rpartition("_")[0] in {*_DATASETS, "demo"}


def test_every_config_gets_the_same_minutes_and_none_is_repeated(commands, tmp_path):
    suite = Suite.read(CONFIGS / "dsb2018/suite_small.yaml")
    folders = train_suite(suite, tmp_path, minutes=3, images=None, options=["SEED", "4"])
    assert folders == [tmp_path / config.stem for config in suite.configs]
    for command in commands.found:
        options = command[command.index("--config-file") + 2 :]
        keys = dict(zip(options[::2], options[1::2]))
        assert (keys["SOLVER.MAX_MINUTES"], keys["SEED"]) == ("3.0", "4") and "--resume" in command
    again = train_suite(suite, tmp_path, minutes=3, images=None, options=["SEED", "4", "DATALOADER.NUM_WORKERS", "1"])
    assert again == folders and len(commands.found) == 4


def test_a_run_of_other_settings_is_not_taken_for_one_of_these(commands, tmp_path):
    suite = Suite.read(CONFIGS / "dsb2018/suite_small.yaml")
    folders = train_suite(suite, tmp_path, minutes=3, images=None)
    with pytest.raises(ConfigError) as refusal:
        train_suite(suite, tmp_path, minutes=4, images=None)
    assert f"{folders[0]} holds a run of other settings: SOLVER.MAX_MINUTES 3.0 (now 4.0); set" in str(refusal.value)
    # A run of a version without this key.
    file = folders[0] / "config.yaml"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "ORIENTATIONS" not in line))
    train_suite(suite, tmp_path, minutes=3, images=None)
    with pytest.raises(ConfigError, match=r"TEST.ORIENTATIONS 1 \(now 2\)"):
        train_suite(suite, tmp_path, minutes=3, images=None, options=["TEST.ORIENTATIONS", "2"])
    file.unlink()
    with pytest.raises(ConfigError, match="config.yaml does not tell its settings .*; give another --output, or"):
        train_suite(suite, tmp_path, minutes=3, images=None)
    assert len(commands.found) == len(folders)


def test_what_the_budget_decides_is_no_option(commands, tmp_path):
    suite = Suite.read(CONFIGS / "dsb2018/suite_small.yaml")
    with pytest.raises(ValueError, match="pairs cannot set SOLVER.MAX_ITER: give --minutes or --images"):
        train_suite(suite, tmp_path, minutes=3, images=None, options=["SOLVER.MAX_ITER", "9"])
    with pytest.raises(ValueError, match="pairs cannot set OUTPUT_DIR: give --output"):
        train_suite(suite, tmp_path, minutes=3, images=None, options=["OUTPUT_DIR", "elsewhere"])


def test_image_budget_is_in_whole_batches(commands, tmp_path):
    suite = Suite.read(CONFIGS / "dsb2018/suite_small.yaml")
    train_suite(suite, tmp_path, minutes=None, images=1003)
    command = commands.found[0]
    assert command[command.index("SOLVER.MAX_ITER") + 1] == "250"
    assert command[command.index("SOLVER.MAX_MINUTES") + 1] == "0.0"


@pytest.mark.parametrize(("images", "warmup"), [(312, 7), (1003, 25), (40000, 100)])
def test_few_images_are_not_all_spent_on_warm_up(commands, tmp_path, images, warmup):
    train_suite(Suite.read(CONFIGS / "dsb2018/suite_small.yaml"), tmp_path, minutes=None, images=images)
    command = commands.found[0]
    assert command[command.index("SOLVER.WARMUP_ITERS") + 1] == str(warmup)


def test_failed_run_ends_the_suite_and_keeps_the_rest(commands, tmp_path):
    suite = Suite.read(CONFIGS / "dsb2018/suite_small.yaml")
    train_suite(Suite(suite.dataset, suite.configs[:1]), tmp_path, minutes=1, images=None)
    commands.fail = True
    with pytest.raises(subprocess.CalledProcessError):
        train_suite(suite, tmp_path, minutes=1, images=None)
    assert len(commands.found) == 2 and (tmp_path / suite.configs[0].stem / "model_final.pth").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SOLVER: {BASE_LR: fast}", "Type mismatch"),
        ("SOLVER: {CHECKPOINT_PERIOD: 0}", "SOLVER.CHECKPOINT_PERIOD 0: set"),
        ("DATASETS: {TEST: [toy_train]}", "lacks the suite's dataset, toy_val"),
        ("TEST: {EVALUATORS: [matching], BEST_METRIC: matching/f1}", "lacks coco, which writes what"),
    ],
)
def test_a_config_that_fails_hours_later_is_refused_before_the_first(toy_data, tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(suite_module, "run_command", lambda command: pytest.fail("trained"))
    datasets = ["DATASETS.TRAIN", "('toy_train',)", "MODEL.ROI_HEADS.NUM_CLASSES", "1"]
    (tmp_path / "first.yaml").write_text("DATASETS: {TEST: [toy_val]}\nVERSION: 2\n")
    (tmp_path / "second.yaml").write_text(f"_BASE_: first.yaml\n{text}\n")
    (tmp_path / "suite.yaml").write_text("dataset: toy_val\nconfigs: [first.yaml, second.yaml]\n")
    suite = Suite.read(tmp_path / "suite.yaml")
    with pytest.raises(ConfigError, match=f"second.yaml.*: .*{message}"):
        train_suite(suite, tmp_path / "runs", minutes=1, images=None, options=datasets)


TRAINING = """
import os, signal, sys, time
def save_and_end(number, frame):
    time.sleep(0.2)
    sys.exit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, save_and_end if sys.argv[1] == "saves" else signal.SIG_DFL)
for text in sys.argv[2:]:
    process, _, number = text.partition(":")
    os.kill(os.getppid() if process == "suite" else os.getpid(), int(number))
time.sleep(20)
"""


@pytest.mark.parametrize("training", ["saves", "imports"])
@pytest.mark.parametrize(
    ("signals", "number"),
    [
        (["run:15"], 15),
        (["run:2"], 2),
        (["suite:15"], 15),  # as `kill` and queues of clusters do
        (["suite:2", "run:2"], 2),  # as a terminal does
    ],
)
def test_signal_to_a_suite_or_its_run_ends_both_once_the_run_has_saved(training, signals, number):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interruption) as end:
        run_command([sys.executable, "-c", TRAINING, training, *signals])
    assert end.value.number == number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_failed_run_is_an_error():
    run_command([sys.executable, "-c", ""])
    with pytest.raises(subprocess.CalledProcessError):
        run_command([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("configs: [a.yaml]", "must have 'dataset"),
        ("dataset: x\nconfigs: [a.yaml]", "a.yaml does not exist"),
        ("- 1", "must have"),
        ("dataset: x\nconfigs: a.yaml", "must have"),
        ("dataset: x\nconfigs: [a.yaml", "suite_x.yaml cannot be read: line 2, column 17: expected"),
        ("dataset: x\nconfigs: [suite_x.yaml, ./suite_x.yaml]", "two configs have one name"),
    ],
)
def test_broken_suite_is_refused(tmp_path, text, message):
    (tmp_path / "suite_x.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        Suite.read(tmp_path / "suite_x.yaml")


@pytest.mark.parametrize("budget", [{"minutes": None, "images": None}, {"minutes": 1, "images": 5}])
def test_one_budget(tmp_path, budget):
    with pytest.raises(ValueError, match="either minutes or images"):
        train_suite(Suite("x", ()), tmp_path, **budget)


@pytest.mark.parametrize("budget", [{"minutes": 0.0, "images": None}, {"minutes": None, "images": -1}])
def test_a_budget_that_would_never_end_or_train_nothing_is_refused(tmp_path, budget):
    with pytest.raises(ValueError, match="trains nothing; give more than 0"):
        train_suite(Suite("x", ()), tmp_path, **budget)
