"""The weights that a fine-tuning starts from, where its classes are the model's own and where they are others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..data.converters.label_files import DEFAULT_CLASS
from ..data.seeding import seeded
from ..engine.weights import check_same_layers
from ..modeling import CenterKeypointProposals
from .errors import FinetuneError

# The last layer of the heatmap, the one with a channel per class.
_CLASS_LAYER = "proposal_generator.head.heatmap.2."


@dataclasses.dataclass(frozen=True)
class ClassTransfer:
    """How the classes of the labels are those of a model.

    Attributes:
        names: of the fine-tuned model's classes, in the order of the labels' dataset.
        source: for each of them the index of the model's class whose weights it starts from; None starts anew.
    """

    names: tuple[str, ...]
    source: tuple[int | None, ...]

    @property
    def new(self) -> tuple[str, ...]:
        """Classes that start anew."""
        return tuple(name for name, index in zip(self.names, self.source) if index is None)

    def is_identity(self, num_model_classes: int) -> bool:
        """Whether the model's class layer stays as it is."""
        return self.source == tuple(range(num_model_classes))


def match_classes(model_names: Sequence[str], label_names: Sequence[str]) -> ClassTransfer:
    """One class is the model's one class, whatever either is called; several are matched by name."""
    if len(model_names) == len(label_names) == 1:
        unnamed = label_names[0] == DEFAULT_CLASS
        return ClassTransfer((model_names[0] if unnamed else label_names[0],), (0,))
    index = {name: i for i, name in enumerate(model_names)}
    return ClassTransfer(tuple(label_names), tuple(index.get(name) for name in label_names))


def build_start_model(
    cfg: CfgNode, pretrained: nn.Module | None, transfer: ClassTransfer, model_names: Sequence[str], seed: int
) -> nn.Module:
    """A model of ``cfg`` with the weights of ``pretrained``, those of the classes as ``transfer`` says.

    Args:
        cfg: with the number of classes of the labels.
        pretrained: None starts all weights anew.
        seed: of new weights.

    Raises:
        FinetuneError: for other classes than those of a model without a center heatmap.
        ConfigError: for a ``cfg`` of other layers than those of ``pretrained``.
    """
    with seeded(seed):
        model = build_model(cfg)
    if pretrained is None:
        return model
    identity = transfer.is_identity(len(model_names))
    if not identity and not isinstance(getattr(model, "proposal_generator", None), CenterKeypointProposals):
        raise FinetuneError(
            f"the model has the classes {', '.join(model_names)} and the labels {', '.join(transfer.names)}: a "
            f"{cfg.MODEL.META_ARCHITECTURE} without center keypoints learns no other classes; give labels of its own"
        )
    state, weights = model.state_dict(), pretrained.state_dict()
    check_same_layers(weights, model, class_layer=_CLASS_LAYER)
    for name, value in state.items():
        if not identity and name.startswith(_CLASS_LAYER):
            for row, index in enumerate(transfer.source):
                if index is not None:
                    value[row] = weights[name][index]
        elif name in weights:  # What only the training runs may be new.
            state[name] = weights[name]
    with torch.no_grad():
        model.load_state_dict(state)
    return model
