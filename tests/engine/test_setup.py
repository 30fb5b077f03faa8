from argparse import Namespace

import pytest
import torch

from objguided_d2.engine import ConfigError, argument_parser, load_config


def load(*command_line: str):
    return load_config(argument_parser().parse_args(command_line))


@pytest.fixture
def toy_options(toy_data, tmp_path):
    options = ["DATASETS.TRAIN", "('toy_train',)", "DATASETS.TEST", "('toy_val',)", "OUTPUT_DIR", str(tmp_path)]
    return [*options, "MODEL.ROI_HEADS.NUM_CLASSES", "1"]


def test_file_and_overrides_are_merged_in_this_order(tmp_path, toy_options):
    file = tmp_path / "config.yaml"
    file.write_text("VERSION: 2\nSOLVER:\n  MAX_ITER: 7\n  BASE_LR: 0.5\n")
    cfg = load("--config-file", str(file), *toy_options, "SOLVER.MAX_ITER", "9")
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR) == (9, 0.5)
    assert cfg.is_frozen()


def test_float_keys_take_whole_numbers(toy_options):
    cfg = load(*toy_options, "SOLVER.MAX_MINUTES", "15", "SOLVER.BASE_LR", "1e-3", "SOLVER.MAX_ITER", "9", "SEED", "-1")
    assert cfg.SOLVER.MAX_MINUTES == 15.0 and isinstance(cfg.SOLVER.MAX_MINUTES, float)
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SEED) == (1e-3, 9, -1)


def test_device_falls_back_to_the_cpu(toy_options, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load(*toy_options).MODEL.DEVICE == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert load(*toy_options).MODEL.DEVICE == "cuda"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("MODEL:\n  RESNET: {DEPTH: 18}\nVERSION: 2\n", "config.yaml: Non-existent config key: MODEL.RESNET"),
        ("SOLVER: {MAX_ITER: many}\nVERSION: 2\n", "config.yaml: Type mismatch .* SOLVER.MAX_ITER"),
        ("SOLVER: [\n", "config.yaml: line 2, column 1: "),
        ("_BASE_: missing.yaml\n", "config.yaml: .*missing.yaml"),
        (None, "config.yaml does not exist"),
    ],
)
def test_bad_config_file(tmp_path, content, message):
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load("--config-file", str(file))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["SOLVER.MAX_ITRE", "5"], "SOLVER.MAX_ITRE; did you mean SOLVER.MAX_ITER"),
        (["SOLVER.MAX_ITER"], "command line: .*odd length"),
        (["DATASETS.TRAIN", "('toy_trian',)"], "'toy_trian' is not registered; did you mean toy_train"),
        (["DATASETS.TRAIN", "()", "DATASETS.TEST", "()"], "DATASETS.TRAIN is empty"),
        (["INPUT.SQUARE_CROP.ENABLED", "True", "INPUT.SQUARE_CROP.OUTPUT_SIZE", "0"], "OUTPUT_SIZE is 0; use 1 to"),
        (["MODEL.WEIGHTS", "missing.pth"], "MODEL.WEIGHTS missing.pth does not exist"),
        (["SOLVER.AMP.ENABLED", "True", "MODEL.DEVICE", "cpu"], "SOLVER.AMP.PRECISION = float16 needs CUDA"),
        (["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", "half"], "SOLVER.AMP.PRECISION = 'half'"),
        (["SOLVER.CHECKPOINT_PERIOD", "0"], "SOLVER.CHECKPOINT_PERIOD 0: set it to .* 1 or more"),
        (["MODEL.META_ARCHITECTURE", "GeneralizedRCN"], "no 'GeneralizedRCN'; did you mean GeneralizedRCNN"),
        (["MODEL.ROI_MASK_HEAD.NAME", "ObjectGuided"], "MODEL.ROI_MASK_HEAD.NAME: there is no 'ObjectGuided'; did you"),
        (["TEST.EVALUATORS", "['coko']"], "TEST.EVALUATORS: there is no 'coko'; did you mean coco"),
        (["DATALOADER.NUM_WORKERS", "-1"], "DATALOADER.NUM_WORKERS -1: set it to 0 or more"),
        (["MODEL.DEVICE", "gpu"], "MODEL.DEVICE: device 'gpu' is unknown or not there; give cpu"),
    ],
)
def test_bad_option(toy_options, options, message):
    with pytest.raises(ConfigError, match=message):
        load(*toy_options, *options)


def test_a_resumed_run_needs_no_longer_what_it_began_with(toy_options, tmp_path):
    options = [*toy_options, "MODEL.WEIGHTS", "missing.pth", "OUTPUT_DIR", str(tmp_path)]
    with pytest.raises(ConfigError, match="MODEL.WEIGHTS missing.pth does not exist"):
        load("--resume", *options)
    (tmp_path / "last_checkpoint").write_text("model_0000004.pth")
    load("--resume", *options)


def test_registered_dataset_without_files(toy_options, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(ConfigError, match=f"'dsb2018_val'.*{tmp_path}.*prepare dsb2018"):
        load(*toy_options, "DATASETS.TEST", "('dsb2018_val',)")


def test_evaluation_needs_weights_but_no_training_set(toy_options, tmp_path):
    options = [*toy_options, "DATASETS.TRAIN", "('unknown',)"]
    with pytest.raises(ConfigError, match="--eval-only needs MODEL.WEIGHTS"):
        load("--eval-only", *options)
    assert load("--eval-only", "--resume", *options).DATASETS.TRAIN == ("unknown",)


def test_local_processes_choose_a_free_port():
    args = argument_parser().parse_args([])
    assert isinstance(args, Namespace) and args.dist_url == "auto"
