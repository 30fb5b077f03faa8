"""Signals, losses that are not finite and full disks in the midst of a run."""

import errno
import math
import os
import signal
import threading
import time
from argparse import Namespace

import pytest
import torch

from objguided_d2.cli import main
from objguided_d2.engine import ConfigError, EngineError, Trainer, run
from objguided_d2.engine.batch_norm import FreezeBatchNorm
from objguided_d2.engine.errors import DivergenceError
from tests.engine.toy import last_checkpoint, toy_cfg, weights

pytestmark = pytest.mark.usefixtures("toy_data")
ARGUMENTS = Namespace(config_file="", resume=False, eval_only=False)


def train(cfg, resume=False, prepare=lambda trainer: None) -> Trainer:
    trainer = Trainer(cfg)
    prepare(trainer)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def differing(first, second) -> list[str]:
    return [name for name in first if not torch.equal(first[name], second[name])]


sent: list[float] = []  # when


def signal_and_wait(*args, **kwargs):
    """What takes minutes, in which a signal comes."""
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(300):
        time.sleep(0.1)
    return {}


def test_signal_ends_an_evaluation_with_a_checkpoint(tmp_path, monkeypatch, caplog):
    options = "TEST.EVAL_PERIOD", 3, "SOLVER.CHECKPOINT_PERIOD", 100
    train(toy_cfg(tmp_path / "whole", *options))
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "test", signal_and_wait)
        stopped = train(toy_cfg(tmp_path / "parts", *options))
    assert time.monotonic() - sent[-1] < 10 and stopped.interrupted
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert last_checkpoint(tmp_path / "parts").name == "model_0000002.pth"
    assert "Stopped after iteration 2; to go on" in caplog.text
    resumed = train(toy_cfg(tmp_path / "parts", *options), resume=True)
    assert resumed.start_iter == 3 and resumed._last_eval_results
    assert not differing(*(weights(tmp_path / name / "model_final.pth") for name in ("whole", "parts")))


def test_training_in_another_thread_than_the_main_one_leaves_signals_alone(tmp_path):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    seen = []

    def look(trainer):
        trainer.model.register_forward_pre_hook(lambda module, inputs: seen.append(signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=lambda: train(toy_cfg(tmp_path), prepare=look))
    thread.start()
    thread.join()
    assert last_checkpoint(tmp_path).name == "model_final.pth" and set(seen) == {handlers[0]}
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_command_that_a_signal_stops_ends_with_the_status_of_that_signal(tmp_path, monkeypatch, number, status):
    whole_step = Trainer.run_step

    def run_step(trainer):
        if trainer.iter == 2:
            os.kill(os.getpid(), number)
        whole_step(trainer)

    monkeypatch.setattr(Trainer, "run_step", run_step)
    (tmp_path / "toy.yaml").write_text(toy_cfg(tmp_path, "MODEL.ROI_HEADS.NUM_CLASSES", 1).dump())
    with pytest.raises(SystemExit) as end:
        main(["train", "--config-file", str(tmp_path / "toy.yaml")])
    assert end.value.code == status
    assert last_checkpoint(tmp_path).name == "model_0000002.pth"


@pytest.mark.parametrize("is_updating", [False, True])
def test_loader_process_that_dies_of_the_signal_leaves_the_last_whole_step(tmp_path, is_updating):
    def lose_worker(trainer):
        def hook(module, inputs):
            if trainer.iter == 3:
                os.kill(os.getpid(), signal.SIGTERM)
                trainer._trainer.is_updating = is_updating
                raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

        trainer.model.register_forward_pre_hook(hook)

    if is_updating:  # Weights that may be half of one step and half of the next are no checkpoint.
        with pytest.raises(RuntimeError, match="killed by signal"):
            train(toy_cfg(tmp_path, "SOLVER.CHECKPOINT_PERIOD", 2), prepare=lose_worker)
        assert last_checkpoint(tmp_path).name == "model_0000001.pth"
    else:
        assert train(toy_cfg(tmp_path, "SOLVER.CHECKPOINT_PERIOD", 2), prepare=lose_worker).interrupted
        assert last_checkpoint(tmp_path).name == "model_0000002.pth"


def test_signal_ends_the_evaluation_after_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "test", signal_and_wait)
    stopped = train(toy_cfg(tmp_path))
    assert time.monotonic() - sent[-1] < 10 and stopped.interrupted
    assert last_checkpoint(tmp_path).name == "model_final.pth"


@pytest.mark.parametrize("precise", [False, True])
def test_signal_ends_the_measurement_of_batch_norm(tmp_path, monkeypatch, precise):
    options = ("DATASETS.TEST", (), "TEST.PRECISE_BN.NUM_ITER", 3, "SOLVER.CHECKPOINT_PERIOD", 100)
    if precise:
        options += "TEST.PRECISE_BN.ENABLED", True, "TEST.EVAL_PERIOD", 5
    else:
        options += "SOLVER.FREEZE_BN_AT", 0.5
    train(toy_cfg(tmp_path / "whole", *options))

    def slow_third_batch(trainer):
        """Each layer of the model has been through two batches of the measurement then."""
        calls = []

        def hook(module, inputs):
            measuring = any(layer.momentum == 1.0 for layer in trainer.model.modules() if hasattr(layer, "momentum"))
            calls.extend([1] * measuring)
            if len(calls) == 3:
                signal_and_wait()

        trainer.model.head.register_forward_pre_hook(hook)

    stopped = train(toy_cfg(tmp_path / "parts", *options), prepare=slow_third_batch)
    assert time.monotonic() - sent[-1] < 10 and stopped.interrupted
    assert last_checkpoint(tmp_path / "parts").name == ("model_0000004.pth" if precise else "model_0000003.pth")
    train(toy_cfg(tmp_path / "parts", *options), resume=True)
    names = differing(*(weights(tmp_path / name / "model_final.pth") for name in ("whole", "parts")))
    # Detectron2's hook takes other batches at each of its measurements.
    assert not names or precise and all(name.startswith("features.norm.") for name in names)
    assert "features.norm.weight" not in names


def test_signal_before_the_first_step_leaves_no_checkpoint(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("objguided_d2.engine.batch_norm.update_bn_stats", signal_and_wait)

    def measure_at_once(trainer):
        (hook,) = (hook for hook in trainer._hooks if isinstance(hook, FreezeBatchNorm))
        hook._progress = lambda: 1.0

    cfg = toy_cfg(tmp_path, "SOLVER.FREEZE_BN_AT", 0.5, "DATASETS.TEST", ())
    assert train(cfg, prepare=measure_at_once).interrupted
    assert not list(tmp_path.glob("*.pth")) and "Stopped before the first iteration" in caplog.text


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_ends_the_run_before_the_weights_change(tmp_path, value, caplog):
    def breaks_in_step_five(trainer):
        def hook(module, inputs, losses):
            if trainer.iter == 5:
                return {"loss_mask": losses["loss_mask"] * value}

        trainer.model.register_forward_hook(hook)

    cfg = toy_cfg(tmp_path, "SOLVER.CHECKPOINT_PERIOD", 3, "TEST.EVAL_PERIOD", 6)
    message = rf"loss_mask is {value} at iteration 5 with learning rate 0\.00\d+ on \d.png, \d.png, \d.png, \d.png\."
    with pytest.raises(DivergenceError, match=message) as error:
        train(cfg, prepare=breaks_in_step_five)
    assert "\n" not in str(error.value) and "Traceback" not in caplog.text
    assert last_checkpoint(tmp_path).name == "model_0000002.pth"
    assert all(torch.isfinite(weight).all() for weight in weights(last_checkpoint(tmp_path)).values())
    assert not (tmp_path / "inference").exists()


def test_weights_that_are_not_finite_are_no_checkpoint(tmp_path):
    def gradient_breaks_in_step_three(trainer):
        bias = trainer.model.head.bias
        bias.register_hook(lambda gradient: gradient * (math.nan if trainer.iter == 3 else 1))

    with pytest.raises(DivergenceError, match="model_0000003.pth is not written: head.bias is no longer finite"):
        train(toy_cfg(tmp_path), prepare=gradient_breaks_in_step_three)
    assert last_checkpoint(tmp_path).name == "model_0000001.pth"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64")])
def test_full_disk_is_one_line_with_the_file_and_keeps_the_former_checkpoint(tmp_path, monkeypatch, error):
    save, calls = torch.save, []

    def full_at_the_second(data, file):
        calls.append(1)
        if len(calls) < 2:
            return save(data, file)
        if isinstance(error, RuntimeError):
            error.__context__ = OSError(errno.ENOSPC, "No space left on device")
        raise error

    monkeypatch.setattr(torch, "save", full_at_the_second)
    with pytest.raises(EngineError, match=r"model_0000003.pth: No space left on device; .* --resume$"):
        run(toy_cfg(tmp_path), ARGUMENTS)
    assert last_checkpoint(tmp_path).name == "model_0000001.pth"
    assert not [path for path in tmp_path.iterdir() if "0000003" in path.name]


@pytest.mark.parametrize("inside", ["", "run", "run/deep"])
def test_an_output_folder_that_cannot_be_is_one_line(tmp_path, inside):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / inside
    with pytest.raises(ConfigError, match=f"^OUTPUT_DIR {folder} cannot be written .*; give another folder$"):
        run(toy_cfg(folder), ARGUMENTS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SOLVER.IMS_PER_BATCH", 0, "SOLVER.IMS_PER_BATCH 0 cannot be divided among 1"),
        ("SOLVER.LR_SCHEDULER_NAME", "cosine", "SOLVER.LR_SCHEDULER_NAME cosine: .*WarmupCosineLR"),
        ("SOLVER.FREEZE_BN_AT", -1.0, "SOLVER.FREEZE_BN_AT is -1.0"),
    ],
)
def test_refused_settings_leave_an_earlier_run_where_it_is(tmp_path, key, value, message):
    (tmp_path / "model_final.pth").write_bytes(b"earlier")
    with pytest.raises(ConfigError, match=message):
        run(toy_cfg(tmp_path, key, value), ARGUMENTS)
    assert (tmp_path / "model_final.pth").read_bytes() == b"earlier"


def test_full_disk_elsewhere_names_the_output_folder_and_how_to_go_on(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    weights = tmp_path / "model.pth"
    torch.save({"model": Trainer.build_model(toy_cfg(tmp_path)).state_dict()}, weights)
    evaluation = Namespace(config_file="", resume=False, eval_only=True)
    monkeypatch.setattr(Trainer, "test", full)
    with pytest.raises(EngineError, match=f"^{tmp_path}: No space left on device; .* go on with --resume$"):
        run(toy_cfg(tmp_path), ARGUMENTS)
    with pytest.raises(EngineError, match=f"^{tmp_path}: No space left on device; .* start again$"):
        run(toy_cfg(tmp_path, "MODEL.WEIGHTS", str(weights)), evaluation)


def test_too_little_gpu_memory_is_one_line_with_what_takes_less(tmp_path, monkeypatch, caplog):
    whole_step = Trainer.run_step

    def run_step(trainer):
        if trainer.iter == 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        whole_step(trainer)

    cfg = toy_cfg(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_step", run_step)
        lower = f"memory of the GPU is not enough; lower SOLVER.IMS_PER_BATCH, {cfg.SOLVER.IMS_PER_BATCH}, if"
        with pytest.raises(EngineError, match=f"{lower} .*, and go on with --resume$"):
            run(cfg, ARGUMENTS)
    assert "Exception during training" not in caplog.text and last_checkpoint(tmp_path).name == "model_0000001.pth"
    run(toy_cfg(tmp_path), Namespace(config_file="", resume=True, eval_only=False))
    assert last_checkpoint(tmp_path).name == "model_final.pth"
