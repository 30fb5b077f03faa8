"""Checkpoint files of the authors' released program, turned into ours and checked against the model they are for."""

import torch
from detectron2.modeling import build_model

from ..config import get_cfg
from ..modeling.released_checkpoint import convert_released_state_dict
from ..utils.atomic_write import atomic_write
from .weights import read_pth


def convert_file(source: str, target: str, config_file: str) -> None:
    """Convert ``source`` (a dict with ``epoch`` and ``state_dict``) and write ``target``, a Detectron2 checkpoint.

    Args:
        config_file: a model whose parameters the result must match one for one. Its number of classes is that of the
            checkpoint.

    Raises:
        ValueError: the file is missing, damaged or no such checkpoint, or its parameters do not fit the model.
    """
    checkpoint = read_pth(source)
    if "state_dict" not in checkpoint:
        raise ValueError(f"{source} has no 'state_dict': the released program saves a dict of 'epoch' and 'state_dict'")
    model = convert_released_state_dict(checkpoint["state_dict"])
    _check_fit(source, model, config_file)
    with atomic_write(target) as temporary, open(temporary, "wb") as file:
        torch.save({"model": model, "__author__": "released program", "matching_heuristics": False}, file)


def _check_fit(source: str, model: dict[str, torch.Tensor], config_file: str) -> None:
    cfg = get_cfg(config_file)
    cfg.MODEL.DEVICE = "cpu"
    last = model.get("proposal_generator.head.heatmap.2.weight")
    if last is not None:
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(last)
    expected = {name: tuple(value.shape) for name, value in build_model(cfg).state_dict().items()}
    shapes = {name: tuple(value.shape) for name, value in model.items()}
    # Batch counters are no parameters; old versions of torch did not save them.
    missing = sorted(name for name in expected.keys() - shapes.keys() if not name.endswith("num_batches_tracked"))
    unknown = sorted(shapes.keys() - expected.keys())
    misfit = sorted(n for n in expected.keys() & shapes.keys() if expected[n] != shapes[n])
    for words, names in (("lacks", missing), ("has besides", unknown), ("has in another shape", misfit)):
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise ValueError(f"{source} does not fit {config_file}: it {words} {shown}")
