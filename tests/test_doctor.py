import os
import subprocess
import sys
from pathlib import Path

import pytest

from objguided_d2 import doctor
from objguided_d2.doctor import Finding

ROOT = Path(__file__).parents[1]


def run_without(package: str, tmp_path: Path, module: tuple[str, ...]) -> subprocess.CompletedProcess:
    """The program in an environment whose ``package`` cannot be imported."""
    (tmp_path / f"{package}.py").write_text("raise ImportError('no library\\nsecond line')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", *module]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment)


@pytest.mark.parametrize("module", [("objguided_d2.doctor",), ("objguided_d2", "doctor")])
def test_missing_package_is_a_finding_with_its_fix(module, tmp_path):
    done = run_without("torch", tmp_path, module)
    assert done.returncode == 1, done.stderr
    assert (
        "MISSING torch: cannot be imported (ImportError: no library)\n        -> run `pip install torch`" in done.stdout
    )
    assert "MISSING objguided_d2: cannot be imported" in done.stdout
    assert "ok      numpy: " in done.stdout and "free disk" in done.stdout
    assert done.stderr == ""


def test_working_installation(capsys):
    assert doctor.main([]) == 0
    report = capsys.readouterr().out
    for subject in ("torch", "pycocotools", "device", "detectron2._C", "ObjectGuidedRCNN", "datasets root"):
        assert f"{subject}: " in report
    assert report.endswith("Ready to train.\n")


def test_dataset_that_is_not_there_is_no_obstacle_but_has_a_fix(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    findings = {finding.subject: finding for finding in doctor.examine(doctor.check_datasets)}
    assert str(tmp_path) in findings["datasets root"].state
    missing = findings["not prepared"]
    assert "dsb2018_train" in missing.state and "objguided prepare" in missing.fix and not missing.fatal


def test_missing_registration_is_fatal(monkeypatch):
    monkeypatch.setitem(doctor.REGISTERED, "META_ARCH_REGISTRY", "NotThere")
    (finding,) = [finding for finding in doctor.check_registries() if finding.subject == "NotThere"]
    assert finding.fatal and finding.fix


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (Finding("a", "1"), "ok      a: 1"),
        (Finding("a", "1", "do"), "note    a: 1\n        -> do"),
        (Finding("a", "1", "do", fatal=True), "MISSING a: 1\n        -> do"),
    ],
)
def test_line_of_a_finding(finding, line):
    assert str(finding) == line


def test_check_that_fails_itself_is_a_finding():
    def check_moon():
        yield Finding("moon", "up")
        raise RuntimeError("clouds")

    first, second = doctor.examine(check_moon)
    assert str(first) == "ok      moon: up"
    assert str(second).startswith("note    moon: not known (RuntimeError: clouds)")
