"""Ctrl-C and SIGTERM of a command that handles neither: silence, the exit status of the signal and no half output."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A command that gets the signal while it is imported, while it writes, or as it ends.
COMMAND = """
import os, sys, threading, time, weakref
from objguided_d2.utils.atomic_write import atomic_write, staged_folder

MOMENT, NUMBER, FOLDER = sys.argv[1], int(sys.argv[2]), os.path.dirname(__file__)
if MOMENT == "importing":
    os.kill(os.getpid(), NUMBER)
    time.sleep(20)
    print("went on")

def main(argv, prog):
    if MOMENT == "starting_to_import":
        # Python calls this inside of its import system, which ignores what it raises.
        import importlib._bootstrap as bootstrap
        whole = bootstrap._get_module_lock
        def interrupted(name):
            os.kill(os.getpid(), NUMBER)
            return whole(name)
        bootstrap._get_module_lock = interrupted
        import colorsys
        print("went on")
    if MOMENT == "writing":
        from pathlib import Path
        with staged_folder(Path(FOLDER) / "set") as staging, atomic_write(Path(FOLDER) / "file.txt") as temporary:
            temporary.write_text("half")
            (staging / "a.png").write_text("half")
            os.kill(os.getpid(), NUMBER)
            os.kill(os.getpid(), NUMBER)  # As timeout does.
            time.sleep(20)
        print("went on")
    return 0
"""
RUN = "import sys; from objguided_d2 import cli; cli.COMMANDS['slow'] = ('slow', ''); cli.console(['slow'])"


def run(folder: Path, moment: str, number: int, **options) -> subprocess.CompletedProcess:
    (folder / "slow.py").write_text(COMMAND)
    return subprocess.run(
        [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {RUN}", moment, str(number)],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["importing", "writing"])
def test_signal_ends_a_command_without_a_word_and_without_half_a_file(tmp_path, moment, number, status):
    ended = run(tmp_path, moment, number)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["slow.py"]


def test_signal_in_the_import_system_is_not_swallowed(tmp_path):
    ended = run(tmp_path, "starting_to_import", signal.SIGINT)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_ignored_signal_stays_ignored(tmp_path):
    ended = run(tmp_path, "nohup", signal.SIGINT, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert ended.returncode == 0
