import pytest

from tests.inference.models import busy_cfg, busy_model, save_run


@pytest.fixture(scope="session")
def busy_run(tmp_path_factory):
    """(cfg, model, run folder) of a model that finds hundreds of objects."""
    cfg = busy_cfg()
    model = busy_model(cfg)
    return cfg, model, save_run(cfg, model, tmp_path_factory.mktemp("run"))
