"""The wheel, installed away from the repository and without a network, is a working product."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
# Starts a command in a network namespace of its own, which has no network at all.
OFFLINE = ["unshare", "--map-root-user", "--net"]
# fmt: off
TWO_STEPS = [
    "--config-file", "synthetic/objguided_small_R_18", "MODEL.DEVICE", "cpu", "OUTPUT_DIR", "run",
    "SOLVER.MAX_ITER", "2", "SOLVER.MAX_MINUTES", "0", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.FREEZE_BN_AT", "1",
    "TEST.PRECISE_BN.NUM_ITER", "1", "INPUT.SQUARE_CROP.OUTPUT_SIZE", "64", "INPUT.MIN_SIZE_TEST", "64",
    "TEST.DETECTIONS_PER_IMAGE", "5",
]
# fmt: on


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Folder that the wheel is installed into, built from a copy so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("objguided_d2", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [*PIP, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder, source], check=True
    )
    (wheel,) = folder.glob("objguided_d2-*.whl")
    assert wheel.stat().st_size < 40e6
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel], check=True)
    shutil.rmtree(source)
    return folder / "site"


@pytest.fixture(scope="module")
def offline() -> list[str]:
    """What a command starts with so that it has no network; nothing where the system does not let users do that."""
    allowed = shutil.which("unshare") and subprocess.run([*OFFLINE, "true"], capture_output=True).returncode == 0
    return OFFLINE if allowed else []


@pytest.fixture
def objguided(installed, offline, tmp_path):
    """Runs the console command in an empty folder, where only the installed package can be imported."""

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(installed), "DETECTRON2_DATASETS": "data"}
        command = [*offline, sys.executable, installed / "bin/objguided", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_package_holds_all_that_it_reads(installed):
    package = installed / "objguided_d2"
    for name in ("configs", "data/converters/splits", "report", "samples"):
        here, there = (ROOT / name if name == "configs" else ROOT / "objguided_d2" / name), package / name
        files = {path.relative_to(here) for path in here.rglob("*") if path.is_file() and path.suffix != ".pyc"}
        assert files <= {path.relative_to(there) for path in there.rglob("*")}
    assert (package / "py.typed").is_file()


def test_installed_command_examines_prepares_and_trains(objguided, tmp_path):
    assert "Ready to train." in objguided("doctor")
    objguided("prepare", "synthetic", "--num-train", "2", "--num-val", "1", "--size", "64")
    objguided("train", *TWO_STEPS)
    assert (tmp_path / "run/model_final.pth").is_file()
    assert (tmp_path / "run/inference/synthetic_val/metrics.json").is_file()


def test_installed_command_predicts_with_the_model_of_the_package(objguided, installed, tmp_path):
    (image,) = installed.glob("objguided_d2/samples/nuclei/images/stained_pink_white_*.png")
    objguided("predict", str(image), "--model", "nuclei", "--output", "results")
    labels = cv2.imread(str(tmp_path / f"results/{image.stem}.labels.tif"), cv2.IMREAD_UNCHANGED)
    assert len(np.unique(labels)) > 5
