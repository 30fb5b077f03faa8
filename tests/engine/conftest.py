import pytest

from tests.engine.toy import register_toy_dataset


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory):
    """Folder of the toy datasets, which are registered."""
    root = tmp_path_factory.mktemp("toy_data")
    register_toy_dataset(root)
    return root
