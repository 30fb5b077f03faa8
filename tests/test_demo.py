"""The demo, with a model that has learned nothing."""

import errno
import os
from dataclasses import replace
from math import nan

import numpy as np
import pytest
from PIL import Image

from objguided_d2 import samples
from objguided_d2.demo import EXPECTED_F1, EXPECTED_F1_OF_CELLS, DemoResult, f1, main, verdict
from objguided_d2.finetuning.trainer import FinetuneTrainer
from tests.finetuning.models import save_tiny_run


def test_f1_counts_the_objects_of_all_images():
    sample = samples.nuclei()[0]
    labels = sample.labels.copy()
    count = labels.max()
    assert f1([(sample, labels)]) == 100 and f1([(sample, 0 * labels)]) == 0
    labels[labels > count // 2] = 0
    found = count // 2
    assert f1([(sample, labels)]) == pytest.approx(100 * 2 * found / (found + count))
    assert f1([(sample, sample.labels), (sample, labels)]) == pytest.approx(200 * (count + found) / (3 * count + found))


@pytest.fixture
def few(monkeypatch):
    """Samples of the demo: a corner of two images."""
    few = [replace(s, image=s.image[:96, :96], labels=s.labels[:96, :96]) for s in samples.nuclei()[:2]]
    monkeypatch.setattr(samples, "nuclei", lambda: few)
    monkeypatch.setattr(samples, "cells", lambda split: few[:1])
    return few


def test_a_demo_that_is_stopped_leaves_no_folder_of_its_training(tmp_path, few, monkeypatch, capsys):
    def stop(error):
        def run_step(trainer):
            assert any(path.name.startswith(".") for path in (tmp_path / "demo").iterdir())
            raise error

        monkeypatch.setattr(FinetuneTrainer, "run_step", run_step)
        return ["--output", str(tmp_path / "demo"), "--model", str(model), "--steps", "1"]

    model = save_tiny_run(tmp_path / "model")
    with pytest.raises(KeyboardInterrupt):
        main(stop(KeyboardInterrupt()))
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"nuclei.png", "predictions"}
    assert main(stop(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "best.pth"))) == 1
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"nuclei.png", "predictions"}
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: best.pth: No space left on device") and line.endswith("start again")


def test_the_demo_predicts_fine_tunes_and_draws(tmp_path, few, capsys):
    model = save_tiny_run(tmp_path / "model")
    assert main(["--output", str(tmp_path / "demo"), "--model", str(model), "--steps", "1"]) == 0
    printed = capsys.readouterr().out
    assert few[1].name in printed and "before" in printed and "cells.zip" in printed
    for name in ("nuclei.png", "cells.png"):
        assert np.asarray(Image.open(tmp_path / "demo" / name)).std() > 10
    for ending in (".labels.tif", ".csv", ".overlay.png"):
        assert (tmp_path / "demo/predictions" / f"{few[0].name}{ending}").is_file()
    assert (tmp_path / "demo/cells.zip").is_file()


@pytest.mark.parametrize(
    ("samples_f1", "after", "words"),
    [
        (EXPECTED_F1, EXPECTED_F1_OF_CELLS, "as it should be"),
        (15.0, 90.0, "wrong"),
        (nan, 90.0, "wrong"),
        (90.0, 5.0, "wrong"),
    ],
)
def test_the_demo_says_what_its_result_is_worth(samples_f1, after, words):
    assert words in verdict(DemoResult(samples_f1, 0.0, after))
