"""Two CPU processes, started as tools/train_net.py starts them."""

import atexit
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from torch import nn

from objguided_d2.engine import ConfigError, Trainer, WeightsError, child_process, launch
from objguided_d2.engine.distributed import _run_in_group, create_ddp_model
from objguided_d2.engine.errors import ProcessError
from objguided_d2.engine.process_environment import ProcessPlacement
from tests.engine.toy import last_checkpoint, register_toy_dataset, run_toy, toy_cfg, weights  # noqa: F401

# A model without BatchNorm and dropout, of which one process and two compute the same.
PLAIN = "MODEL.META_ARCHITECTURE", "ToyPlainDetector", "SOLVER.OPTIMIZER", "SGD", "DATASETS.TEST", ()
TWO_PROCESSES = {"num_gpus": 2, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}


def args(**changes) -> Namespace:
    return Namespace(config_file="", resume=False, eval_only=False, **(TWO_PROCESSES | changes))


def thread_names() -> list[str]:
    return [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]


def run_toy_and_name_threads(cfg, arguments, folder: Path) -> None:
    """Write the names of this process's threads after collective work, and again when Python exits."""
    run_toy(cfg, arguments)
    atexit.register(lambda: (folder / f"{os.getpid()}_exit.json").write_text(json.dumps(thread_names())))
    (folder / f"{os.getpid()}_work.json").write_text(json.dumps(thread_names()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="CPU processes are for machines without CUDA")
def test_two_processes_train_and_evaluate_as_one_and_leave_no_thread(toy_data, tmp_path):
    options = "MODEL.META_ARCHITECTURE", "ToyPlainDetector", "SOLVER.OPTIMIZER", "SGD", "SOLVER.MAX_MINUTES", 5.0
    DatasetCatalog.get("toy_train")
    launch(run_toy_and_name_threads, args(), (toy_cfg(tmp_path / "two", *options), args(), tmp_path))
    one = Trainer(toy_cfg(tmp_path / "one", *options))
    results = flatten_results_dict(one.train())

    two = json.loads((tmp_path / "two/results_train.json").read_text())
    assert flatten_results_dict(two) == pytest.approx(results, nan_ok=True)
    assert 0 < results["segm/AP"] < 100
    for key, value in weights(tmp_path / "two/model_final.pth").items():
        torch.testing.assert_close(value, one.model.state_dict()[key])

    if sys.platform.startswith("linux"):  # Whose /proc tells of threads.
        for when, there in (("work", True), ("exit", False)):
            files = list(tmp_path.glob(f"*_{when}.json"))
            assert len(files) == 2
            for file in files:
                assert any("gloo" in name for name in json.loads(file.read_text())) == there


TORCHRUN_PROGRAM = """
import sys
from tests.engine.test_engine_distributed import *
register_toy_dataset(Path(sys.argv[2]))
launch(run_toy, args(num_gpus=1), (toy_cfg(sys.argv[1], *PLAIN), args(num_gpus=1)))
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="CPU processes are for machines without CUDA")
def test_two_processes_of_torchrun_train_as_one(toy_data, tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(TORCHRUN_PROGRAM)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "program.py"), str(tmp_path / "two"), str(toy_data)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    one = Trainer(toy_cfg(tmp_path / "one", *PLAIN))
    one.train()
    losses = [
        [json.loads(line)["total_loss"] for line in (tmp_path / name / "metrics.json").read_text().splitlines()[:1]]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1]) and losses[0]
    for key, value in weights(tmp_path / "two/model_final.pth").items():
        torch.testing.assert_close(value, one.model.state_dict()[key])


def fail_in_the_second_process(kind: str) -> None:
    if comm.get_rank() == 1:
        if kind == "error":
            raise WeightsError("a.pth is empty")
        os.kill(os.getpid(), signal.SIGKILL)
    comm.all_gather("what the other one never gives")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CPU processes are for machines without CUDA")
def test_error_of_one_process_ends_all_and_is_the_error_of_the_launcher():
    with pytest.raises(WeightsError, match="^a.pth is empty$"):
        launch(fail_in_the_second_process, args(), ("error",))


@pytest.mark.skipif(torch.cuda.is_available(), reason="CPU processes are for machines without CUDA")
def test_death_of_one_process_ends_all():
    with pytest.raises(ProcessError, match="process 1 of 2 was killed by SIGKILL .* --resume"):
        launch(fail_in_the_second_process, args(), ("death",))


def launch_one(when: str, connection: Connection) -> None:
    """The launcher of a process that takes SIGTERM once it trains, and then waits for others."""

    def run():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # As in a process that was not forked from one with a handler.
        connection.send("started")
        connection.recv()
        child_process.end_with_launcher()
        if when == "trains":
            signal.signal(signal.SIGTERM, lambda number, frame: connection.send("saved"))
        connection.send("runs")
        for _ in range(600):
            time.sleep(0.1)

    multiprocessing.get_context("fork").Process(target=run).start()
    time.sleep(60)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked here, which is fast")
@pytest.mark.parametrize("when", ["starts", "imports", "trains"])
def test_process_ends_after_its_launcher_was_killed(when, monkeypatch):
    monkeypatch.setattr(child_process, "GRACE_SECONDS", 0.5 if when == "trains" else 60)
    ours, others = multiprocessing.Pipe()
    launcher = multiprocessing.get_context("fork").Process(target=launch_one, args=(when, others))
    launcher.start()
    others.close()
    messages = []

    def receive_until(last):
        while not messages or messages[-1] != last:
            assert ours.poll(20)
            messages.append(ours.recv())

    receive_until("started")
    if when == "starts":
        launcher.kill()
        launcher.join()
    ours.send("go")
    if when != "starts":
        receive_until("runs")
        launcher.kill()
        launcher.join()
    with pytest.raises(EOFError):
        receive_until(None)
    assert ("saved" in messages) == (when == "trains")


def test_flags_that_start_processes_contradict_torchrun(monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(ConfigError, match="--num-gpus 2 .* one of 2 that torchrun or srun has started"):
        launch(print, args(), ())


def test_processes_that_do_not_meet_say_where(monkeypatch):
    def refuse(**options):
        raise RuntimeError("The client socket has timed out\nat ...")

    monkeypatch.setattr(torch.distributed, "init_process_group", refuse)
    with pytest.raises(ProcessError, match="process 3 of 4 does not reach the others at tcp://node0:1234 .The client"):
        _run_in_group(ProcessPlacement(3, 4, 0, 1, "tcp://node0:1234"), print, ())


def test_several_machines_need_an_address(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--num-machines above 1 needs --dist-url"):
        launch(print, args(num_machines=2), ())


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="--num-gpus 2: this machine has 1"):
        launch(print, args(), ())


def test_one_process_runs_here():
    calls = []
    launch(lambda *values: calls.append(values), args(num_gpus=0), (1, 2))
    assert calls == [(1, 2)]


def test_model_of_a_single_process_is_not_wrapped():
    model = nn.Linear(1, 1)
    assert create_ddp_model(model) is model


@pytest.mark.skipif(torch.cuda.is_available(), reason="CPU processes are for machines without CUDA")
def test_sigterm_to_the_launcher_stops_all_processes_with_a_checkpoint(toy_data, tmp_path):
    metrics, ended, sent = tmp_path / "metrics.json", threading.Event(), []

    def terminate_once_steps_are_made():
        while not (metrics.exists() and metrics.stat().st_size):
            if ended.wait(0.1):
                return
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    cfg = toy_cfg(tmp_path, "SOLVER.MAX_ITER", 10**6, "SOLVER.CHECKPOINT_PERIOD", 10**6)
    thread = threading.Thread(target=terminate_once_steps_are_made)
    thread.start()
    try:
        with pytest.raises(SystemExit) as end:
            launch(run_toy, args(), (cfg, args()))
    finally:
        ended.set()
        thread.join()
    assert end.value.code == 143 and time.monotonic() - sent[0] < 30
    assert torch.load(last_checkpoint(tmp_path))["iteration"] >= 19
