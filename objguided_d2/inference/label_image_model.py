"""A trained model as a plain ``nn.Module`` from image tensors to label images, for programs that know PyTorch alone."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn

from ..config import get_cfg
from .model_info import ModelInfo
from .predictor import Predictor


class LabelImageModel(nn.Module):
    """Images of any size to label images, with the preparation and thresholds of :class:`.predictor.Predictor`.

    It is built without weights; ``load_state_dict`` brings them. Only inference: it does not train.

    Args:
        config: all keys and values of the model's config, as YAML has them.
        info: fields of :class:`ModelInfo`.
    """

    def __init__(self, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        super().__init__()
        cfg = get_cfg()
        cfg.merge_from_other_cfg(CfgNode(dict(config)))
        # Whoever builds the module moves it to a device.
        cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
        cfg.freeze()
        self.model = build_model(cfg)
        model_info = ModelInfo(**{**info, "class_names": tuple(info["class_names"])})
        self._predictor = Predictor(cfg, self.model, info=model_info)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Predict a batch.

        Args:
            images: (N, 1, H, W) gray or (N, 3, H, W) RGB, of any integer or float type that the model takes.

        Returns:
            (N, 1, H, W) int32 on the device of ``images``: i + 1 where object i is, best score first, 0 elsewhere.
        Raises:
            ValueError: for another number of channels, or an image without a finite value.
            RuntimeError: in training mode.
        """
        if self.model.training:
            raise RuntimeError("LabelImageModel predicts only; call eval() first")
        pixels = list(images.detach().cpu().numpy())
        pixel_size = self._predictor.info.pixel_size
        predictions = self._predictor.predict_batch(pixels, channel_axis=0, pixel_size=pixel_size)
        labels = [torch.from_numpy(prediction.labels.astype("int32")) for prediction in predictions]
        return torch.stack(labels)[:, None].to(images.device)
