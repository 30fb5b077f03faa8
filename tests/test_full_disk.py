"""A full disk and a folder that cannot be written, command by command: one line that names the file."""

import errno
import os
import resource
import subprocess
import sys

import pytest

from objguided_d2 import cli
from objguided_d2.cli import main
from tests.finetuning.images import write_images
from tests.finetuning.models import save_tiny_run


@pytest.fixture
def limit_files():
    """Lets files of this process have so many bytes at most."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def in_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "out"


def error_line(argv, capsys) -> str:
    assert main([str(part) for part in argv]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    return line


def test_prepare_names_the_dataset(tmp_path, limit_files, capsys):
    limit_files(1000)
    options = ["--num-train", 2, "--num-val", 1, "--size", 64, "--output", tmp_path]
    assert str(tmp_path / "synthetic") + "'" in error_line(["prepare", "synthetic", *options], capsys)
    assert not list(tmp_path.iterdir())


def test_finetune_names_the_weights_that_it_starts_from(tmp_path, limit_files, capsys):
    model = save_tiny_run(tmp_path / "model")
    images, labels = write_images(tmp_path, 1)
    limit_files(20_000)
    options = ["--model", model, "--images", images, "--labels", labels, "--device", "cpu", "--steps", 1]
    assert "start.pth" in error_line(["finetune", *options, "--output", tmp_path / "mine"], capsys)
    assert not (tmp_path / "mine").exists()


def test_demo_and_benchmark_say_what_they_cannot_write(in_a_file, capsys):
    assert str(in_a_file) in error_line(["demo", "--output", in_a_file], capsys)
    config = ["--config-file", "dsb2018/objguided_small_R_18"]
    assert str(in_a_file) in error_line(["benchmark", *config, "--output", in_a_file], capsys)


def test_demo_tells_of_an_unknown_model_in_one_line(tmp_path, capsys):
    assert "no_such_model" in error_line(["demo", "--output", tmp_path, "--model", "no_such_model"], capsys)


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_full_disk_that_a_command_does_not_handle_is_one_line(monkeypatch, capsys, number, told):
    def run(argv, prog):
        raise OSError(number, os.strerror(number), "page.html")

    monkeypatch.setattr("objguided_d2.report.compare_command.main", run)
    if told:
        assert error_line(["compare"], capsys).endswith("No space left on device: 'page.html'")
    else:
        with pytest.raises(OSError):
            main(["compare"])


LOG = """
import logging, sys
from objguided_d2 import cli

def main(argv, prog):
    handler = logging.StreamHandler(open("/dev/full", "w"))
    logging.getLogger("a").addHandler(handler)
    logging.getLogger("a").warning("of a full disk")
    import atexit
    atexit.register(handler.stream.close)
    return 0

sys.modules["logs"] = sys.modules["__main__"]
cli.COMMANDS["logs"] = ("logs", "")
cli.console(["logs"])
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_log_on_a_full_disk_is_no_traceback_a_line():
    ended = subprocess.run([sys.executable, "-c", LOG], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_to_a_full_disk_is_told_in_one_line():
    program = "from objguided_d2 import cli; cli.main = lambda argv: print('table') or 0; cli.console([])"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr == "error: standard output cannot be written: No space left on device\n"
    assert cli.main is main
