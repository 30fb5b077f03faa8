"""What all tests share: the device, the golden values and the toy datasets."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # One of several, which share the cores; so do the processes that it starts.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
else:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
# Expected values are those of float32.
torch.backends.cudnn.allow_tf32 = False
# How long an example takes depends on what else the machine does.
settings.register_profile("no_deadline", deadline=None)
# ``make soak``: the tests that leave their number of examples open take many.
settings.register_profile("soak", deadline=None, max_examples=100)
settings.load_profile("no_deadline")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def golden():
    """Reads a file of reference values into tensors: ``golden("decode")["heatmap"]``."""

    def read(name: str) -> dict[str, torch.Tensor]:
        with np.load(GOLDEN / f"{name}.npz") as file:
            return {key: torch.as_tensor(file[key]) if file[key].dtype.kind != "U" else file[key] for key in file.files}

    return read


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory) -> Path:
    """Folder of the toy datasets, which are registered."""
    from tests.engine.toy import register_toy_dataset

    root = tmp_path_factory.mktemp("toy_data")
    register_toy_dataset(root)
    return root


def xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """(center x, center y, width, height) -> XYXY."""
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
