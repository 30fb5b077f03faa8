import json
import logging
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from detectron2.engine import HookBase

from objguided_d2.engine import Trainer, interrupt, schedule
from tests.engine.toy import last_checkpoint, toy_cfg, weights

pytestmark = pytest.mark.usefixtures("toy_data")


class SignalAt(HookBase):
    """Sends a signal to this process during an iteration."""

    def __init__(self, iteration: int, number: int = signal.SIGTERM) -> None:
        self.iteration, self.number = iteration, number

    def before_step(self) -> None:
        if self.trainer.iter == self.iteration:
            os.kill(os.getpid(), self.number)


def train(cfg, *, resume=False, hook=None) -> Trainer:
    trainer = Trainer(cfg)
    if hook is not None:
        trainer.register_hooks([hook])
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def metrics(output_dir) -> list[dict]:
    return [json.loads(line) for line in (output_dir / "metrics.json").read_text().splitlines()]


# Before and after the interruption, and never.
@pytest.mark.parametrize(("freeze_at", "num_workers"), [(0.2, 0), (0.8, 2), (1.0, 0)])
def test_interrupted_and_resumed_run_equals_uninterrupted_one(tmp_path, freeze_at, num_workers):
    options = "SOLVER.FREEZE_BN_AT", freeze_at, "TEST.PRECISE_BN.NUM_ITER", 2
    options += "DATALOADER.NUM_WORKERS", num_workers, "TEST.EVAL_PERIOD", 3, "SOLVER.CHECKPOINT_PERIOD", 100
    train(toy_cfg(tmp_path / "whole", *options))
    train(toy_cfg(tmp_path / "parts", *options), hook=SignalAt(4))
    assert last_checkpoint(tmp_path / "parts").name == "model_0000004.pth"
    assert not (tmp_path / "parts/model_final.pth").exists()
    resumed = train(toy_cfg(tmp_path / "parts", *options), resume=True)
    assert resumed.start_iter == 5

    whole, parts = (torch.load(tmp_path / name / "model_final.pth") for name in ("whole", "parts"))
    assert_same(whole["model"], parts["model"])
    assert whole["trainer"]["hooks"]["LRScheduler"] == parts["trainer"]["hooks"]["LRScheduler"]
    for one, other in zip(*(x["trainer"]["_trainer"]["optimizer"]["state"].values() for x in (whole, parts))):
        assert_same(one, other)


def test_number_of_workers_does_not_change_the_training(tmp_path):
    for num_workers in (0, 2):
        train(toy_cfg(tmp_path / str(num_workers), "DATALOADER.NUM_WORKERS", num_workers, "DATASETS.TEST", ()))
    assert_same(*(weights(tmp_path / name / "model_final.pth") for name in ("0", "2")))


def test_seeds_differ_between_runs_unless_set(tmp_path):
    for name in ("a", "b"):
        train(toy_cfg(tmp_path / name, "SEED", -1, "DATASETS.TEST", (), "SOLVER.MAX_ITER", 2))
    a, b = (torch.load(tmp_path / name / "model_final.pth") for name in ("a", "b"))
    assert a["trainer"]["seed"] != b["trainer"]["seed"]


def test_resumed_run_takes_over_a_drawn_seed(tmp_path):
    cfg = toy_cfg(tmp_path, "SEED", -1, "DATASETS.TEST", ())
    first = train(cfg, hook=SignalAt(4))
    assert train(cfg, resume=True).seed == first.seed


@pytest.fixture
def pythons_own_sigint():
    """Background jobs of a shell start with SIGINT ignored, and tests may be one."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def test_sigint_is_left_to_python_after_the_run_and_at_the_second_time(tmp_path, pythons_own_sigint, monkeypatch):
    class Twice(HookBase):
        def before_step(self):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)  # From another program for the same reason: it would end the tests.
            monkeypatch.setattr(interrupt, "REPEAT_SECONDS", 0)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    assert train(toy_cfg(tmp_path), hook=Twice()).interrupted
    assert signal.getsignal(signal.SIGINT) is before
    assert last_checkpoint(tmp_path).name == "model_0000000.pth"


def test_interruption_tells_how_to_go_on(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "objguided_d2.engine.interrupt"):
        train(toy_cfg(tmp_path), hook=SignalAt(1))
    assert "--resume" in caplog.text and str(tmp_path) in caplog.text


def test_metrics_file_holds_losses_progress_and_results(tmp_path):
    train(toy_cfg(tmp_path))
    merged = {key: value for line in metrics(tmp_path) for key, value in line.items()}
    assert merged["images_seen"] == 8 * 4
    assert merged["elapsed_minutes"] > 0
    assert {"total_loss", "lr", "segm/AP", "bbox/AP", "voc_seg/AP"} <= merged.keys()
    assert any(tmp_path.glob("events.out.tfevents*"))


def test_best_model_is_kept_apart_from_the_last_checkpoint(tmp_path):
    trainer = train(toy_cfg(tmp_path, "TEST.EVAL_PERIOD", 4))
    best = torch.load(tmp_path / "model_best.pth")
    # The toy detects the same all the time: of equal evaluations the last is kept.
    assert best["iteration"] == 8
    assert best["value"] == pytest.approx(trainer._last_eval_results["segm"]["AP"])
    assert last_checkpoint(tmp_path).name == "model_final.pth"
    assert train(toy_cfg(tmp_path), resume=True).best_model.best == best["value"]


def test_few_periodic_checkpoints_are_kept_also_after_resuming(tmp_path):
    cfg = toy_cfg(tmp_path, "SOLVER.CHECKPOINT_PERIOD", 1, "DATASETS.TEST", ())
    train(cfg, hook=SignalAt(4))
    train(cfg, resume=True)
    kept = sorted(path.name for path in tmp_path.glob("model_*.pth"))
    assert kept == ["model_0000005.pth", "model_0000006.pth", "model_0000007.pth", "model_final.pth"]


def test_a_new_run_is_never_resumed_from_the_one_that_it_replaced(tmp_path):
    class Killed(HookBase):
        def before_step(self):
            raise RuntimeError("killed")

    train(toy_cfg(tmp_path))
    earlier = weights(tmp_path / "model_final.pth")
    cfg = toy_cfg(tmp_path, "SOLVER.BASE_LR", 0.003)
    with pytest.raises(RuntimeError, match="killed"):
        train(cfg, hook=Killed())
    assert not list(tmp_path.glob("model_*.pth")) and not (tmp_path / "inference").exists()
    assert_same(weights(tmp_path / "replaced" / "model_final.pth"), earlier)
    assert train(cfg, resume=True).start_iter == 0
    iterations = [line["iteration"] for line in metrics(tmp_path)]
    assert iterations == sorted(set(iterations))


def test_bfloat16_computes_the_step_and_the_evaluation_under_autocast(tmp_path):
    cfg = toy_cfg(tmp_path, "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", "bfloat16", "SOLVER.MAX_ITER", 2)
    trainer = Trainer(cfg)
    seen = set()
    trainer.model.head.register_forward_hook(lambda module, args, out: seen.add((module.training, out.dtype)))
    trainer.train()
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert all(value.dtype != torch.bfloat16 for value in weights(tmp_path / "model_final.pth").values())


def test_precise_batch_norm_replaces_the_running_statistics(tmp_path):
    options = "DATASETS.TEST", (), "SOLVER.MAX_ITER", 2
    train(toy_cfg(tmp_path / "running", *options))
    train(toy_cfg(tmp_path / "precise", *options, "TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 3))
    running, precise = (weights(tmp_path / name / "model_final.pth") for name in ("running", "precise"))
    changed = {key for key in running if not torch.equal(running[key], precise[key])}
    changed.remove("features.norm.num_batches_tracked")
    assert changed == {"features.norm.running_mean", "features.norm.running_var"}


class TestTimeBudget:
    @pytest.fixture(autouse=True)
    def ten_seconds_a_step(self, monkeypatch):
        # The clock is read at the beginning and at the end of each step.
        readings = iter(range(0, 10**6, 10))
        monkeypatch.setattr(schedule, "time", SimpleNamespace(perf_counter=lambda: float(next(readings))))

    # One minute is six steps; the bound on iterations is out of reach.
    OPTIONS = "SOLVER.MAX_MINUTES", 1.0, "SOLVER.MAX_ITER", 1000, "SOLVER.WARMUP_ITERS", 0

    def test_ends_with_checkpoint_and_evaluation(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, "detectron2.utils.events"):
            trainer = train(toy_cfg(tmp_path, *self.OPTIONS))
        (progress,) = [message for message in caplog.messages if "total_loss" in message]
        assert "eta: 0:00:00  iter: 5" in progress
        assert trainer.iter == 6
        assert torch.load(tmp_path / "model_final.pth")["iteration"] == 5
        lines = metrics(tmp_path)
        assert any("segm/AP" in line for line in lines)
        assert max(line.get("elapsed_minutes", 0) for line in lines) == 1.0

    def test_learning_rate_follows_the_elapsed_fraction(self, tmp_path):
        class Record(HookBase):
            rates = []

            def before_step(self):
                self.rates.append(self.trainer.optimizer.param_groups[0]["lr"])

        train(toy_cfg(tmp_path, *self.OPTIONS, "DATASETS.TEST", ()), hook=Record())
        fractions = torch.arange(6) / 6
        expected = 0.01 * (1 + torch.cos(torch.pi * fractions)) / 2
        assert Record.rates == pytest.approx(expected.tolist())

    def test_resumed_run_has_the_rest(self, tmp_path):
        cfg = toy_cfg(tmp_path, *self.OPTIONS, "DATASETS.TEST", ())
        train(cfg, hook=SignalAt(3))
        trainer = train(cfg, resume=True)
        assert (trainer.start_iter, trainer.iter) == (4, 6)

    def test_finished_run_is_only_evaluated_again(self, tmp_path):
        train(toy_cfg(tmp_path, *self.OPTIONS))
        before = weights(tmp_path / "model_final.pth")
        trainer = train(toy_cfg(tmp_path, *self.OPTIONS), resume=True)
        assert trainer._last_eval_results["segm"]["AP"] > 0
        assert_same(before, trainer.model.state_dict())
