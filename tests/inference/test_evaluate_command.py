"""``objguided evaluate``."""

import json

import torch

from objguided_d2.cli import main
from objguided_d2.engine import dataset_checks
from objguided_d2.engine.trainer import Trainer
from objguided_d2.inference.evaluate_command import evaluate
from objguided_d2.inference.pretrained import export_bundle
from tests.finetuning.models import save_tiny_run


def test_the_numbers_of_a_model_are_printed_and_written(toy_data, tmp_path, capsys):
    model = save_tiny_run(tmp_path / "model")
    command = ["evaluate", "--model", str(model), "--dataset", "toy_val", "--output", str(tmp_path / "evaluation")]
    assert main([*command, "TEST.ORIENTATIONS", "2", "TEST.EVALUATORS", "('coco',)"]) == 0
    written = json.loads((tmp_path / "evaluation/inference/toy_val/metrics.json").read_text())
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["segm/AP50"])
    assert line.split()[1] == f"{written['results']['segm/AP50']:.2f}"
    assert (tmp_path / "evaluation/inference/toy_val/coco_instances_results.json").is_file()


def test_label_maps_take_the_score_threshold_of_the_bundle_unless_options_say_another(toy_data, tmp_path, monkeypatch):
    bundle = export_bundle(save_tiny_run(tmp_path / "model"), tmp_path / "model.zip", score_threshold=0.9)
    asked = []
    monkeypatch.setattr(Trainer, "test", lambda cfg, model: asked.append(cfg.TEST.LABEL_MAP_SCORE_THRESH) or {})
    for options in ((), ("TEST.LABEL_MAP_SCORE_THRESH", "0.4")):
        evaluate(str(bundle), "toy_val", str(tmp_path), options=options)
    assert asked == [0.9, 0.4]


def test_images_are_loaded_by_no_more_processes_than_the_model_may_have_threads(toy_data, tmp_path, monkeypatch):
    model = save_tiny_run(tmp_path / "model")
    asked = []
    monkeypatch.setattr(Trainer, "test", lambda cfg, model: asked.append(cfg.DATALOADER.NUM_WORKERS) or {})
    for threads in (1, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        evaluate(str(model), "toy_val", str(tmp_path), options=["DATALOADER.NUM_WORKERS", "3"])
        evaluate(str(model), "toy_val", str(tmp_path))
    assert asked == [3, 1, 3, 4]


def test_what_does_not_fit_is_one_line(toy_data, tmp_path, capsys):
    model = save_tiny_run(tmp_path / "model")
    toy = ["--model", str(model), "--dataset", "toy_val"]
    for arguments, words in (
        (["--model", str(model), "--dataset", "toy_vall"], "'toy_vall' is not registered; did you mean toy_val"),
        (["--model", str(tmp_path / "none.zip"), "--dataset", "toy_val"], "none.zip does not exist"),
        ([*toy, "TEST.ORIENTATION", "2"], "key: TEST.ORIENTATION"),
        ([*toy, "MODEL.WEIGHTS", "x.pth"], "cannot set MODEL.WEIGHTS: give --model"),
        ([*toy, "DATASETS.TEST", "()"], "cannot set DATASETS.TEST: give --dataset"),
        ([*toy, "MODEL.CENTER_HEAD.CONV_DIM", "4"], "more weights are not those of the model; leave out"),
    ):
        assert main(["evaluate", *arguments]) == 1
        error = capsys.readouterr().err
        assert words in error and error.startswith("error: ") and error.count("\n") == 1


def test_too_little_gpu_memory_is_one_line(toy_data, tmp_path, monkeypatch, capsys):
    def test(cfg, model):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    monkeypatch.setattr(Trainer, "test", test)
    model = save_tiny_run(tmp_path / "model")
    options = ["--dataset", "toy_val", "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["evaluate", "--model", str(model), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the memory of the GPU is not enough; lower") and line.endswith("start again")


def test_a_dataset_that_numbers_the_classes_otherwise_gives_no_numbers(toy_data, tmp_path, monkeypatch, capsys):
    bundle = export_bundle(save_tiny_run(tmp_path / "model"), tmp_path / "model.zip", class_names=("rectangle",))
    monkeypatch.setattr(dataset_checks, "_class_names", lambda name: ["debris", "rectangle"])
    assert main(["evaluate", "--model", str(bundle), "--dataset", "toy_val", "--output", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "'toy_val'" in line and f"has the classes debris, rectangle, but the model {bundle} has rectangle" in line
