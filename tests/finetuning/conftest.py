import pytest

from tests.finetuning.models import save_tiny_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    return save_tiny_run(tmp_path_factory.mktemp("pretrained"))
