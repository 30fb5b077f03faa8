"""At which size the images of a fine-tuning go through the network: their objects as large as those of the training."""

import dataclasses

from detectron2.config import CfgNode

from ..inference.model_info import ModelInfo

# Objects within this factor of the training's keep the size that the model's config gives their images.
_SIMILAR = 1.5
# Diameters, in the network's pixels, that a model handles whose own are unknown.
_SMALLEST, _LARGEST = 8.0, 96.0


@dataclasses.dataclass(frozen=True)
class NetworkScale:
    """
    Attributes:
        value: pixels of the network per pixel of an image.
        diameter: of the objects in the network at ``value``, pixels, median.
        reason: one line, for people.
    """

    value: float
    diameter: float
    reason: str


def choose_scale(cfg: CfgNode, model_info: ModelInfo, dataset: str, given: float | None = None) -> NetworkScale:
    """The scale for a registered dataset with objects.

    Args:
        cfg: of the model, with the size of test images.
        model_info: with the diameter of the training objects, where it is known.
        dataset: the images to train on.
        given: the user's choice.
    """
    as_configured = cfg.clone()
    as_configured.defrost()
    as_configured.DATASETS.TRAIN = (dataset,)
    here = ModelInfo(("object",), 0.0).with_training_sizes(as_configured)
    assert here.training_scale and here.object_diameter, "a dataset with objects"
    scale, diameter = here.training_scale, here.object_diameter
    pixels = f"{diameter / scale:.0f} px in the images"
    if given is not None:
        return NetworkScale(given, diameter / scale * given, f"objects are {pixels}; the scale is {given:g} as given")
    expected = model_info.object_diameter
    if expected is not None:
        if 1 / _SIMILAR <= diameter / expected <= _SIMILAR:
            reason = f"objects are {pixels} and {diameter:.0f} in the network, the training's {expected:.0f}"
            return NetworkScale(scale, diameter, f"{reason}: the scale stays {scale:.3g}")
        wanted = expected
        reason = f"objects are {pixels} and would be {diameter:.0f} in the network, the training's {expected:.0f}"
    elif _SMALLEST <= diameter <= _LARGEST:
        return NetworkScale(
            scale, diameter, f"objects are {pixels} and {diameter:.0f} in the network: the scale stays {scale:.3g}"
        )
    else:
        wanted = 2 * _SMALLEST if diameter < _SMALLEST else _LARGEST / 2
        reason = f"objects are {pixels} and would be {diameter:.0f} in the network"
    value = scale * wanted / diameter
    return NetworkScale(value, wanted, f"{reason}: the scale is {value:.3g} in place of {scale:.3g}")
