"""The console command: help at once, and one line for what cannot work."""

import os
import subprocess
import sys

import pytest
import torch
from detectron2.engine import default_argument_parser

from objguided_d2 import cli
from objguided_d2.cli import COMMANDS, main
from objguided_d2.data.converters import commands, ctc
from objguided_d2.data.intensity import DEFAULT
from objguided_d2.data.synthetic import KINDS
from objguided_d2.engine import argument_parser

SCREEN = 40  # lines
HELP_WITHOUT_TORCH = """
import sys
from objguided_d2.cli import COMMANDS, main
for command in ("--help", "prepare ctc --help", *(f"{name} --help" for name in COMMANDS)):
    try:
        main(command.split())
    except SystemExit as end:
        assert end.code == 0, command
print(sorted({"torch", "detectron2", "cv2", "numpy"} & set(sys.modules)))
"""


def status(argv: list[str]) -> int:
    """Exit status of a command line."""
    try:
        return main(argv)
    except SystemExit as end:
        if isinstance(end.code, str):  # Python prints it and ends with 1.
            print(end.code, file=sys.stderr)
            return 1
        return end.code


def error_line(argv: list[str], capsys, expected_status: int = 1) -> str:
    """The one line that a command ends with that cannot work."""
    assert status(argv) == expected_status
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    return line


def test_the_warning_of_detectron2_is_left_out_in_processes_that_a_command_starts(monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:mine")
    for _ in range(2):
        cli._silence_detectron2()
    warn = "; ".join(
        f"warnings.warn('{text}', FutureWarning)" for text in ("`torch.jit.script` is deprecated.", "mine", "b")
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import warnings; {warn}"], capture_output=True, text=True, check=True
    )
    assert [line.partition("Warning: ")[2] for line in done.stderr.splitlines() if "Warning: " in line] == ["b"]
    assert os.environ["PYTHONWARNINGS"].count("ignore:") == 2


def test_help_is_one_screen_that_names_every_command(capsys):
    assert status(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= SCREEN
    assert all(any(line.split()[:1] == [name] for line in lines) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_under_its_own_name(name, capsys):
    assert status([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: objguided {name} ")


@pytest.mark.parametrize("name", commands.PREPARATIONS)
def test_every_preparation_has_help(name, capsys):
    assert status(["prepare", name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: objguided prepare {name} ")


def test_help_needs_neither_torch_nor_detectron2():
    done = subprocess.run([sys.executable, "-c", HELP_WITHOUT_TORCH], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_no_command_prints_the_help_and_fails(capsys):
    assert status([]) == 2
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize(("end", "at_once"), [(0, []), (1, []), (130, [130]), (143, [143])])
def test_program_ends_at_once_after_a_signal_and_in_pythons_own_way_else(end, at_once, monkeypatch):
    ends = []

    def exit_at_once(status):
        ends.append(status)
        raise SystemExit(status)

    monkeypatch.setattr(cli, "exit_at_once", exit_at_once)
    for stopped in (lambda argv: end, lambda argv: sys.exit(end)):
        monkeypatch.setattr(cli, "main", stopped)
        with pytest.raises(SystemExit) as info:
            cli.console()
        assert info.value.code == end
    assert ends == 2 * at_once


def test_version(capsys):
    assert status(["--version"]) == 0
    assert capsys.readouterr().out.startswith("objguided_d2 ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "unknown command trian; did you mean train?"),
        (["zzz"], "unknown command zzz; see --help"),
        (["train", "--suite", "dsb2018/suite_small", "--images", "4"], "--suite needs --output and a budget"),
        (["train", "--suite", "dsb2018/suite_small", "--output", "x"], "--suite needs --output and a budget"),
        (["train", "--suite", "a", "--resume"], "--suite names the configs itself"),
        (["train", "--suite", "a", "--num-gpus", "2"], "--suite trains in one process"),
        (["train", "--images", "4"], "go with --suite"),
    ],
)
def test_arguments_that_make_no_command_are_told_in_one_line(argv, message, capsys):
    assert message in error_line(argv, capsys, 2)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "--config-file", "dsb2018/objguided_smal_R_18"], "did you mean dsb2018/objguided_small_R_18"),
        (["train", "--config-file", "no/such.yaml"], "config no/such.yaml does not exist"),
        (["train", "DATASETS.TRAIN", "('dsb2018_trian',)"], "'dsb2018_trian' is not registered; did you mean dsb2018_"),
        (["train", "--suite", "dsb2018/suit_small", "--images", "4", "--output", "x"], "mean dsb2018/suite_small"),
        (["check", "no_such_val"], "no_such_val"),
        (["compare", "no_run", "--dataset", "no_such_val", "--output", "x"], "no_such_val"),
        (["benchmark", "--config-file", "dsb2018/nothing", "--output", "x"], "config dsb2018/nothing does not exist"),
        (["ablate", "--config-file", "dsb2018/nothing", "--output", "x"], "config dsb2018/nothing does not exist"),
        (["predict", "no.png", "--model", "no_such_model", "--output", "x"], "no_such_model"),
        (["export", "no_such_run", "x.zip"], "no_such_run"),
    ],
)
def test_what_is_unknown_is_told_in_one_line(argv, message, capsys):
    assert message in error_line(argv, capsys)


def test_missing_weights_are_told_in_one_line(toy_data, capsys):
    options = ["DATASETS.TEST", "('toy_val',)", "MODEL.ROI_HEADS.NUM_CLASSES", "1", "MODEL.WEIGHTS", "no.pth"]
    assert "MODEL.WEIGHTS no.pth does not exist" in error_line(["train", "--eval-only", *options], capsys)


def test_weights_of_another_model_are_told_in_one_line(toy_data, tmp_path, capsys):
    torch.save({"model": {"other": torch.ones(1)}}, tmp_path / "other.pth")
    options = ["DATASETS.TEST", "('toy_val',)", "OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu"]
    options += ["MODEL.ROI_HEADS.NUM_CLASSES", "1", "MODEL.META_ARCHITECTURE", "ToyDetector"]
    options += ["MODEL.WEIGHTS", str(tmp_path / "other.pth")]
    assert "nothing in them fits the model" in error_line(["train", "--eval-only", *options], capsys)


def test_source_that_cannot_be_converted_fails_with_one_line(tmp_path, capsys):
    assert status(["prepare", "dsb2018", "--source", str(tmp_path / "no.zip")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and len(error.splitlines()) == 1


def test_flags_of_training_are_those_of_detectron2():
    def flags(parser) -> dict:
        return {action.dest: (action.option_strings, action.nargs, action.type) for action in parser._actions}

    assert flags(argument_parser()) == flags(default_argument_parser())
    parsed = vars(argument_parser().parse_args([])) | {"opts": None}
    theirs = vars(default_argument_parser().parse_args([])) | {"opts": None}
    assert parsed | {"dist_url": ""} == theirs | {"dist_url": ""} and parsed["dist_url"] == "auto"


def test_choices_in_the_help_of_prepare_are_those_of_the_converters(capsys):
    status(["prepare", "ctc", "--help"])
    shown = capsys.readouterr().out
    assert f"{{{','.join(ctc.TRUTHS)}}}" in shown and DEFAULT in shown
    status(["prepare", "synthetic", "--help"])
    assert f"{{{','.join(KINDS)}}}" in capsys.readouterr().out
