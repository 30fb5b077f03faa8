import pytest
from detectron2.config import CfgNode

from objguided_d2.finetuning.class_transfer import build_start_model, match_classes
from objguided_d2.finetuning.errors import FinetuneError


@pytest.mark.parametrize(
    ("model", "labels", "names", "source"),
    [
        (["nucleus"], ["object"], ("nucleus",), (0,)),
        (["object"], ["cell"], ("cell",), (0,)),
        (["a", "b"], ["b", "a"], ("b", "a"), (1, 0)),
        (["a", "b"], ["b", "c"], ("b", "c"), (1, None)),
        (["a", "b"], ["object"], ("object",), (None,)),
        (["object"], ["a", "b"], ("a", "b"), (None, None)),
    ],
)
def test_one_class_is_the_models_one_and_several_meet_by_name(model, labels, names, source):
    transfer = match_classes(model, labels)
    assert (transfer.names, transfer.source) == (names, source)
    assert transfer.new == tuple(name for name, index in zip(names, source) if index is None)


def test_other_models_learn_no_other_classes(monkeypatch):
    from torch import nn

    from objguided_d2.finetuning import class_transfer

    monkeypatch.setattr(class_transfer, "build_model", lambda cfg: nn.Linear(1, 1))
    cfg = CfgNode({"MODEL": CfgNode({"META_ARCHITECTURE": "GeneralizedRCNN"})})
    with pytest.raises(FinetuneError, match="GeneralizedRCNN without center keypoints"):
        build_start_model(cfg, nn.Linear(1, 1), match_classes(["a"], ["b", "c"]), ["a"], 0)
