"""Boxes of keypoint graphs as proposals: decoder, heads, targets, losses and decoding.

See the package for the glossary.
"""

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, batched_nms
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from ...structures.roi_atlas import image_of_boxes
from ..center_targets import ignored_cells
from ..valid_values import check_values
from .decoder import KeypointDecoder, KeypointHeads, KeypointMaps
from .grouping import group_keypoints
from .hough import find_keypoints
from .keypoints import to_boxes
from .losses import keypoint_loss, offset_loss
from .targets import encode


@PROPOSAL_GENERATOR_REGISTRY.register()
class KeypointGraphProposals(nn.Module):
    """Proposals from the keypoints of boxes, found and grouped at several scales.

    Every class has keypoint maps of its own; the offsets are those of the nearest object, whatever its class.

    Args:
        input_shape: {"c1": ShapeSpec, ...}, the encoder's maps, finest first.
        num_classes: K.
        decoder_channels, head_kernel, radius, blur_sigma, peak_thresh, topk, start_distance, subcell_peaks,
            box_nms_thresh: see ``config.py``.
        score_thresh: the score that a proposal must exceed.
        loss_weights: factors of "loss_keypoint", "loss_short_offset" and "loss_mid_offset", sums over the scales.

    Attributes:
        takes_ignore_region: :meth:`forward` has that argument, which other proposal generators lack.
    """

    takes_ignore_region = True

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        num_classes: int,
        decoder_channels: list[int],
        head_kernel: int = 7,
        radius: float = 5.0,
        blur_sigma: float = 2.0,
        peak_thresh: float = 0.004,
        topk: int = 500,
        start_distance: float = 10.0,
        subcell_peaks: bool = False,
        box_nms_thresh: float = 0.5,
        score_thresh: float = 0.0,
        loss_weights: dict[str, float],
    ):
        super().__init__()
        check_values(
            "MODEL.KEYPOINT_GRAPH",
            (
                ("HEAD_KERNEL", head_kernel, head_kernel >= 1 and head_kernel % 2 == 1),
                ("RADIUS", radius, radius >= 1),
                ("BLUR_SIGMA", blur_sigma, blur_sigma > 0),
                ("PEAK_THRESH", peak_thresh, peak_thresh >= 0),
                ("TOPK", topk, topk >= 1),
                ("START_DISTANCE", start_distance, start_distance >= 0),
                ("BOX_NMS_THRESH", box_nms_thresh, 0 <= box_nms_thresh <= 1),
            ),
        )
        self.in_features = list(input_shape)
        self.strides = [shape.stride for shape in input_shape.values()][:-1]
        self.decoder = KeypointDecoder([shape.channels for shape in input_shape.values()], decoder_channels)
        self.heads = nn.ModuleList(
            KeypointHeads(channels, num_classes, head_kernel, radius) for channels in self.decoder.channels
        )
        self.num_classes, self.radius = num_classes, radius
        self.keypoint_settings = {
            "radius": radius,
            "sigma": blur_sigma,
            "threshold": peak_thresh,
            "topk": topk,
            "subcell": subcell_peaks,
        }
        self.start_distance, self.box_nms_thresh, self.score_thresh = start_distance, box_nms_thresh, score_thresh
        self.loss_weights = loss_weights

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        graph = cfg.MODEL.KEYPOINT_GRAPH
        missing = [name for name in graph.IN_FEATURES if name not in input_shape]
        if missing:
            raise ValueError(f"MODEL.KEYPOINT_GRAPH.IN_FEATURES has {missing[0]!r}, not one of {list(input_shape)}")
        return {
            "input_shape": {name: input_shape[name] for name in graph.IN_FEATURES},
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "decoder_channels": graph.DECODER_CHANNELS,
            "head_kernel": graph.HEAD_KERNEL,
            "radius": graph.RADIUS,
            "blur_sigma": graph.BLUR_SIGMA,
            "peak_thresh": graph.PEAK_THRESH,
            "topk": graph.TOPK,
            "start_distance": graph.START_DISTANCE,
            "subcell_peaks": graph.SUBCELL_PEAKS,
            "box_nms_thresh": graph.BOX_NMS_THRESH,
            "score_thresh": cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            "loss_weights": {
                "loss_keypoint": graph.KEYPOINT_LOSS_WEIGHT,
                "loss_short_offset": graph.SHORT_OFFSET_LOSS_WEIGHT,
                "loss_mid_offset": graph.MID_OFFSET_LOSS_WEIGHT,
            },
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
        ignore_region: Tensor | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Proposals at test time, losses in training; arguments and results as of ``CenterKeypointProposals``."""
        maps = self.maps([features[name] for name in self.in_features])
        if self.training:
            return [], self.losses(maps, gt_instances, ignore_region)
        return self.propose(maps, images.image_sizes), {}

    def maps(self, features: list[Tensor]) -> list[KeypointMaps]:
        """The maps of every scale, finest first, from the encoder's maps."""
        return [head(feature) for head, feature in zip(self.heads, self.decoder(features))]

    def losses(
        self, maps: list[KeypointMaps], gt_instances: list[Instances], ignore_region: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Weighted losses, summed over the scales.

        Args:
            gt_instances: one per image with ``gt_boxes`` (XYXY, input pixels) and ``gt_classes``.
            ignore_region: see :meth:`forward`.

        Raises:
            ValueError: an object whose class is not one of ``num_classes``.
        """
        boxes = Boxes.cat([t.gt_boxes for t in gt_instances]).tensor
        image = image_of_boxes([len(t) for t in gt_instances], boxes.device)
        classes = torch.cat([t.gt_classes for t in gt_instances])
        if len(classes) and int(classes.max()) >= self.num_classes:
            raise ValueError(
                f"an object has class {int(classes.max())}, but there are {self.num_classes} classes, counted from 0; "
                "set MODEL.ROI_HEADS.NUM_CLASSES to the number of categories"
            )
        total = dict.fromkeys(self.loss_weights, 0.0)
        for scale, stride in zip(maps, self.strides):
            num_images, num_classes, _, height, width = scale.keypoint.shape
            targets = encode(boxes, image, classes, (num_images, num_classes, height, width), stride, self.radius)
            ignored = None if ignore_region is None else ignored_cells(ignore_region, stride)
            losses = (
                keypoint_loss(scale.keypoint, targets.keypoint, ignored),
                offset_loss(_at_cells(scale.short, targets.cell), targets.short, self.radius),
                offset_loss(_at_cells(scale.mid, targets.cell), targets.mid, self.radius),
            )
            for name, loss in zip(total, losses, strict=True):
                total[name] = total[name] + self.loss_weights[name] * loss
        return total

    @torch.no_grad()
    def propose(self, maps: list[KeypointMaps], image_sizes: list[tuple[int, int]]) -> list[Instances]:
        """The boxes of all scales after non-maximum suppression within a class, best first, per image.

        A score is c / (c + 1), where c is the mean confidence of the keypoints that were found: it is 1 for a keypoint
        that a disc of probability one votes for. Boxes are not clipped.

        Args:
            image_sizes: (height, width) of the images in input pixels.
        """
        found: list[list[tuple[np.ndarray, np.ndarray, int]]] = [[] for _ in image_sizes]
        for scale, stride in zip(maps, self.strides):
            for per_image, groups in zip(found, self._boxes_of_scale(scale, stride, image_sizes)):
                per_image.extend(groups)
        device = maps[0].keypoint.device
        return [self._suppress(groups, size, device) for groups, size in zip(found, image_sizes)]

    def _boxes_of_scale(
        self, maps: KeypointMaps, stride: int, image_sizes: list[tuple[int, int]]
    ) -> list[list[tuple[np.ndarray, np.ndarray, int]]]:
        """Per image and class: boxes (G, 4) in input pixels, confidences (G,) and the class."""
        sizes = [(-(-height // stride), -(-width // stride)) for height, width in image_sizes]
        with torch.autocast(maps.keypoint.device.type, enabled=False):
            keypoints = find_keypoints(maps, sizes, **self.keypoint_settings)
        # Best first: no kind has more than so many.
        count = int((keypoints.confidence > 0).sum(3).amax())
        confidence, position, others = (values[:, :, :, :count].cpu().numpy() for values in keypoints)
        found = []
        for per_class in zip(confidence, position, others):
            boxes_of_image = []
            for label, (confidences, positions, targets) in enumerate(zip(*per_class)):
                groups = group_keypoints(confidences, positions, targets, self.radius + 1, self.start_distance)
                kinds = np.arange(groups.shape[1])
                present = groups >= 0
                if not len(groups):
                    continue
                boxes, is_box = to_boxes((positions[kinds, groups] + 0.5) * stride, present)
                mean = (confidences[kinds, groups] * present).sum(1) / present.sum(1)
                boxes_of_image.append((boxes[is_box], mean[is_box], label))
            found.append(boxes_of_image)
        return found

    def _suppress(
        self, found: list[tuple[np.ndarray, np.ndarray, int]], size: tuple[int, int], device: torch.device
    ) -> Instances:
        boxes = np.concatenate([np.zeros((0, 4)), *(boxes for boxes, _, _ in found)])
        confidence = np.concatenate([np.zeros(0), *(confidence for _, confidence, _ in found)])
        classes = np.concatenate([np.zeros(0, np.int64), *(np.full(len(boxes), label) for boxes, _, label in found)])
        boxes, confidence = (
            torch.as_tensor(values, dtype=torch.float32, device=device) for values in (boxes, confidence)
        )
        classes = torch.as_tensor(classes, device=device)
        logits = confidence.log()
        is_kept = logits.sigmoid() > self.score_thresh
        boxes, logits, classes = boxes[is_kept], logits[is_kept], classes[is_kept]
        kept = batched_nms(boxes, logits, classes, self.box_nms_thresh)
        return Instances(
            size, proposal_boxes=Boxes(boxes[kept]), objectness_logits=logits[kept], proposal_classes=classes[kept]
        )


def _at_cells(offsets: Tensor, cell: Tensor) -> Tensor:
    """(N, 5, ..., 2, H, W) at flat indices (D,) into N * 5 * H * W -> (D, ..., 2)."""
    cells_first = offsets.flatten(-2).flatten(0, 1).movedim(-1, 1)
    num_cells = cells_first.shape[1]
    return cells_first[cell.div(num_cells, rounding_mode="floor"), cell % num_cells]
