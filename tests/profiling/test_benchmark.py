"""The benchmark of whole models, from the command line to its files."""

import json
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from objguided_d2.profiling import model_benchmark
from objguided_d2.profiling.benchmark import TRAINING_STEPS, main
from tests.engine.toy import toy_cfg
from tests.modeling.models import small_cfg

PEAK_MEGABYTES = 7.0


@pytest.fixture(autouse=True)
def in_process_memory(monkeypatch):
    """The call whose memory is measured runs in this process, since a new one takes seconds to import."""

    def peak_megabytes(prepare, *args) -> float:
        prepare(*args)()
        return PEAK_MEGABYTES

    monkeypatch.setattr(model_benchmark, "peak_megabytes", peak_megabytes)


def write_config(path: Path, cfg: CfgNode) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(cfg.dump())
    return str(path)


def read_results(folder: Path) -> list[dict]:
    return json.loads((folder / "benchmark.json").read_text())["results"]


def test_inference_of_two_models_gives_a_table_and_their_numbers(tmp_path, capsys):
    config = write_config(tmp_path / "small.yaml", small_cfg())
    arguments = ["--config-file", config, "--precision", "float32", "bfloat16", "--size", "64", "--rounds", "2"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    first, second = read_results(tmp_path / "out")
    assert (first["name"], second["name"]) == ("small float32", "small bfloat16")
    assert first["parameters"] == second["parameters"] > 0 and first["gflops"] == second["gflops"] > 0
    assert len(first["seconds"]) == 2 and first["peak_megabytes"] == PEAK_MEGABYTES
    assert {"backbone", "mask head"} <= set(first["stages"])
    text = (tmp_path / "out/benchmark.md").read_text()
    assert "images/s" in text and "| 1.00 x" in text and text in capsys.readouterr().out


def test_training_steps_of_a_dataset_are_measured(toy_data, tmp_path):
    cfg = toy_cfg(tmp_path)
    cfg.defrost()
    cfg.INPUT.SQUARE_CROP.OUTPUT_SIZE = 64
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.MODEL = small_cfg().MODEL
    config = write_config(tmp_path / "small.yaml", cfg)
    arguments = ["--config-file", config, "--dataset", "toy_train", "--training", "--rounds", "1"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    (result,) = read_results(tmp_path / "out")
    assert result["gflops"] is None and result["stages"] == {}
    text = (tmp_path / "out/benchmark.md").read_text()
    assert "training steps/s" in text and f"{TRAINING_STEPS / result['seconds'][0]:.2f}" in text


def test_models_of_one_config_name_keep_unique_names(tmp_path):
    configs = [write_config(tmp_path / folder / "small.yaml", small_cfg()) for folder in ("a", "b")]
    arguments = ["--config-file", *configs, "--size", "64", "--rounds", "1", "--given-boxes", "2"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    assert [result["name"] for result in read_results(tmp_path / "out")] == [
        f"{tmp_path}/a/small float32",
        f"{tmp_path}/b/small float32",
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config-file", "none.yaml"], "config none.yaml does not exist"),
        (["--config-file", "CONFIG", "--weights", "none.pth"], "--weights none.pth does not exist"),
        (["--config-file", "CONFIG", "CONFIG"], "--config-file names a model twice"),
        (["--config-file", "BROKEN"], "cannot be used: Non-existent config key: NO_SUCH_KEY"),
        (["--config-file", "CONFIG", "--dataset", "no_such"], "--dataset no_such is not registered"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments, message, tmp_path, capsys):
    config = write_config(tmp_path / "small.yaml", small_cfg())
    (tmp_path / "broken.yaml").write_text("NO_SUCH_KEY: 1\n")
    names = {"CONFIG": config, "BROKEN": str(tmp_path / "broken.yaml")}
    output = tmp_path / "out"
    assert main([*(names.get(value, value) for value in arguments), "--output", str(output)]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not output.exists()


def test_an_output_folder_that_cannot_be_is_told_before_anything_is_measured(tmp_path, capsys, monkeypatch):
    config = write_config(tmp_path / "small.yaml", small_cfg())
    monkeypatch.setattr(model_benchmark, "benchmark_inference", lambda *args, **kwargs: pytest.fail("measured"))
    assert main(["--config-file", config, "--output", f"{config}/out"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --output {config}/out cannot be made: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--training"],
        ["--weights", "a", "b"],
        ["--rounds", "0"],
        ["--given-boxes", "3", "--dataset", "x"],
        ["--given-boxes", "3", "--size", "40"],
    ],
)
def test_arguments_that_do_not_go_together_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["--config-file", "a.yaml", "--output", "out", *arguments])
    assert exit_info.value.code == 2 and arguments[0] in capsys.readouterr().err.splitlines()[-1]
