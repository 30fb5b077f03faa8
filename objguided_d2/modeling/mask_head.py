"""Object-guided coarse-to-fine mask head: crops of c5 .. c1 go up a ladder of S modules into one mask per ROI (II-B).

Glossary: N images, R boxes, A ROIs of an atlas, P pixels of all ROIs on one level, Q cells of the canvas that holds
them (see ``structures.roi_canvas``), C channels. Ladder maps e4 .. e1 are (Q, C) on the canvases of c4 .. c1.
"""

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ..structures.ragged_masks import RaggedROIMasks
from ..structures.ragged_ops import pointwise_conv
from ..structures.roi_atlas import SPACINGS, RoiAtlas, clip_boxes, expand_boxes, image_of_boxes
from ..structures.roi_canvas import RoiCanvas
from .backbone import fill_conv
from .cldice import soft_cldice_loss
from .losses import soft_dice_loss
from .mask_targets import ObjectMasks, jitter_boxes, sample_rois_within_area
from .point_refine import PointRefinement
from .valid_values import check_values

MASK_LOSSES = ("bce", "bce_dice")


class ModuleS(nn.Module):
    """Module B's layers with an instance norm, on ragged ROIs (Eq. 6).

    Args:
        low_channels, skip_channels: of the two inputs.
        out_channels: of the output and of the 3x3 convolution (paper: those of ``skip``).
        affine: learned scale and shift in the norms.
        norm: False leaves the norms out.
    """

    eps = 1e-5

    def __init__(self, low_channels: int, skip_channels: int, out_channels: int, affine: bool, norm: bool = True):
        super().__init__()
        self.up = nn.Conv2d(low_channels, out_channels, 3, padding=1)
        self.up_norm = nn.InstanceNorm2d(out_channels, eps=self.eps, affine=affine) if norm else None
        self.merge = nn.Conv2d(skip_channels + out_channels, out_channels, 1)
        self.merge_norm = nn.InstanceNorm2d(out_channels, eps=self.eps, affine=affine) if norm else None
        for conv in (self.up, self.merge):
            fill_conv(conv, norm)

    def forward(self, canvas: RoiCanvas, low: Tensor, skip: Tensor) -> Tensor:
        """low (Q, C_low), resized to ``canvas`` already, with zeros in the gutter, and skip (Q, C_skip) -> (Q, C_out).

        All are on the prefix of the canvas.
        """
        if not len(low):
            # Keeps every parameter in the graph, this module's and those of deeper ones; distributed training needs it.
            return low.new_zeros(0, self.up.out_channels) + (low.sum() + sum(p.sum() for p in self.parameters())) * 0
        low = _norm_relu(canvas, canvas.conv3x3(low, self.up.weight, self.up.bias), self.up_norm)
        # The convolution of both concatenated, without the concatenation.
        skip_weight, low_weight = self.merge.weight.flatten(1).split([skip.shape[1], low.shape[1]], 1)
        merged = pointwise_conv(skip, skip_weight, self.merge.bias).add_(pointwise_conv(low, low_weight, None))
        return _norm_relu(canvas, merged, self.merge_norm)


def _norm_relu(canvas: RoiCanvas, values: Tensor, norm: nn.InstanceNorm2d | None) -> Tensor:
    return F.relu_(values) if norm is None else canvas.norm_relu(values, norm.weight, norm.bias, norm.eps)


class SegHead(nn.Module):
    """conv3x3 - ReLU - conv3x3 to one mask logit per pixel (II-B)."""

    def __init__(self, in_channels: int, conv_dim: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, conv_dim, 3, padding=1)
        self.predictor = nn.Conv2d(conv_dim, 1, 3, padding=1)
        weight_init.c2_msra_fill(self.conv)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)

    def forward(self, canvas: RoiCanvas, values: Tensor) -> Tensor:
        """(Q, C) -> logits (Q, 1)."""
        inside = canvas.inside.to(values.dtype)
        hidden = F.relu_(canvas.conv3x3(values * inside, self.conv.weight, self.conv.bias))
        return canvas.conv3x3_to_one(hidden * inside, self.predictor.weight, self.predictor.bias)


@ROI_MASK_HEAD_REGISTRY.register()
class ObjectGuidedMaskHead(nn.Module):
    """Crops, ladder, SegHead, and in training the mask loss and the auxiliary refinement.

    Args:
        input_shape: {"c1": ShapeSpec, ...}, finest first: channels and stride of the maps to crop.
        ladder_channels: of e4 .. e1, deepest first; 0 takes those of the map the level is merged with.
        norm: False leaves out the norms of the ladder.
        norm_affine, seg_head_dim, box_expansion, box_expansion_pixels, grid, min_crop_size: see ``config.py``.
        box_jitter_shift, box_jitter_scale, max_train_roi_pixels: of training ROIs, see ``config.py``.
        max_atlas_pixels: stride-1 pixels of ROIs that are processed at once, see ``config.py``.
        loss_type: "bce" or "bce_dice"; loss_weight, dice_loss_weight: factors of "loss_mask", the cross-entropy, and of
            "loss_mask_dice".
        cldice_loss_weight: factor of "loss_mask_cldice", 0 = without; cldice_iterations: see :mod:`.cldice`.
        refinement: built from ``REFINE``, or None to train without.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        ladder_channels: list[int],
        norm: bool = True,
        norm_affine: bool,
        seg_head_dim: int,
        box_expansion: float = 1.1,
        box_expansion_pixels: float = 0.0,
        grid: str = "edges",
        min_crop_size: int = 2,
        box_jitter_shift: float = 0.0,
        box_jitter_scale: float = 0.0,
        max_train_roi_pixels: int = 0,
        max_atlas_pixels: int = 0,
        loss_type: str = "bce",
        loss_weight: float = 2.0,
        dice_loss_weight: float = 1.0,
        cldice_loss_weight: float = 0.0,
        cldice_iterations: int = 10,
        refinement: PointRefinement | None = None,
    ):
        super().__init__()
        if len(ladder_channels) != len(input_shape) - 1 or min(ladder_channels) < 0:
            raise ValueError(
                f"MODEL.ROI_MASK_HEAD.LADDER_CHANNELS takes {len(input_shape) - 1} values >= 0, one for each of "
                f"IN_FEATURES but the deepest, not {ladder_channels}"
            )
        check_values(
            "MODEL.ROI_MASK_HEAD",
            (
                ("GRID", grid, grid in SPACINGS),
                ("LOSS_TYPE", loss_type, loss_type in MASK_LOSSES),
                ("CLDICE_LOSS_WEIGHT", cldice_loss_weight, cldice_loss_weight >= 0),
                ("CLDICE_ITERATIONS", cldice_iterations, cldice_iterations >= 1),
                ("BOX_EXPANSION", box_expansion, box_expansion > 0),
                ("BOX_EXPANSION_PIXELS", box_expansion_pixels, box_expansion_pixels >= 0),
                ("MIN_CROP_SIZE", min_crop_size, min_crop_size >= 1),
                ("BOX_JITTER_SHIFT", box_jitter_shift, box_jitter_shift >= 0),
                ("BOX_JITTER_SCALE", box_jitter_scale, box_jitter_scale >= 0),
                ("MAX_TRAIN_ROI_PIXELS", max_train_roi_pixels, max_train_roi_pixels >= 0),
                ("MAX_ATLAS_PIXELS", max_atlas_pixels, max_atlas_pixels >= 0),
            ),
        )
        self.in_features = list(input_shape)
        self.strides = tuple(shape.stride for shape in input_shape.values())
        map_channels = [shape.channels for shape in input_shape.values()]
        ladder = [own or channels for own, channels in zip(reversed(ladder_channels), map_channels)]
        low_channels = [*ladder[1:], map_channels[-1]]
        # Module l makes e of level l from level l + 1, as deep as there are levels.
        self.ladder = nn.ModuleList(
            ModuleS(low, skip, out, norm_affine, norm) for low, skip, out in zip(low_channels, map_channels, ladder)
        )
        # An ROI without deeper levels starts from its crop as it is, projected only where the widths differ.
        self.entry = nn.ModuleList(
            nn.Identity() if skip == out else nn.Linear(skip, out) for skip, out in zip(map_channels, ladder)
        )
        self.seg_head = SegHead(ladder[0], seg_head_dim)
        self.refinement = refinement
        self.box_expansion, self.box_expansion_pixels = box_expansion, box_expansion_pixels
        self.grid, self.min_crop_size = grid, min_crop_size
        self.box_jitter_shift, self.box_jitter_scale = box_jitter_shift, box_jitter_scale
        self.max_train_roi_pixels, self.max_atlas_pixels = max_train_roi_pixels, max_atlas_pixels
        self.mask_loss_weights = {"loss_mask": loss_weight}
        if loss_type == "bce_dice":
            self.mask_loss_weights["loss_mask_dice"] = dice_loss_weight
        if cldice_loss_weight:
            self.mask_loss_weights["loss_mask_cldice"] = cldice_loss_weight
        self.cldice_iterations = cldice_iterations

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.ROI_MASK_HEAD
        shapes = {name: input_shape[name] for name in head.IN_FEATURES}
        e1_channels = head.LADDER_CHANNELS[-1] or shapes[head.IN_FEATURES[0]].channels
        e2_channels = head.LADDER_CHANNELS[-2] or shapes[head.IN_FEATURES[1]].channels
        return {
            "input_shape": shapes,
            "ladder_channels": head.LADDER_CHANNELS,
            "norm_affine": head.NORM_AFFINE,
            "seg_head_dim": head.SEG_HEAD_DIM,
            "box_expansion": head.BOX_EXPANSION,
            "box_expansion_pixels": head.BOX_EXPANSION_PIXELS,
            "grid": head.GRID,
            "min_crop_size": head.MIN_CROP_SIZE,
            "box_jitter_shift": head.BOX_JITTER_SHIFT,
            "box_jitter_scale": head.BOX_JITTER_SCALE,
            "max_train_roi_pixels": head.MAX_TRAIN_ROI_PIXELS,
            "max_atlas_pixels": head.MAX_ATLAS_PIXELS,
            "loss_type": head.LOSS_TYPE,
            "loss_weight": head.LOSS_WEIGHT,
            "dice_loss_weight": head.DICE_LOSS_WEIGHT,
            "cldice_loss_weight": head.CLDICE_LOSS_WEIGHT,
            "cldice_iterations": head.CLDICE_ITERATIONS,
            "refinement": (
                PointRefinement(cfg, e1_channels=e1_channels, e2_channels=e2_channels) if head.REFINE.ENABLED else None
            ),
        }

    def predict(self, features: list[Tensor], atlas: RoiAtlas) -> tuple[Tensor, list[Tensor]]:
        """Masks and ladder of an atlas that has ROIs.

        Returns:
            logits (P, 1), float32 or wider, ROI after ROI, and [e1, e2, ...], (Q, C) each.
        """
        ladder, e = [], None
        for level in reversed(range(len(self.strides))):
            canvas = atlas.canvases[level]
            crop = atlas.crop(level, features[level])
            if e is None:
                e = crop
            else:
                prefix = canvas.num_prefix_cells
                merged = self.ladder[level](canvas, atlas.resize(level, e) if prefix else e[:0], crop[:prefix])
                e = merged
                if len(canvas) > canvas.num_prefix:
                    e = torch.cat([merged, self._enter(level, crop[prefix:]).to(merged.dtype)])
            ladder.insert(0, e)
        canvas = atlas.canvases[0]
        return canvas.to_list(self.seg_head(canvas, e)), ladder

    def _enter(self, level: int, crop: Tensor) -> Tensor:
        entry = self.entry[level]
        return crop if isinstance(entry, nn.Identity) else pointwise_conv(crop, entry.weight, entry.bias)

    def rois(self, boxes: Tensor) -> Tensor:
        """The ROIs of boxes, (R, 4) XYXY each: what is cropped for them."""
        return expand_boxes(boxes, self.box_expansion, self.box_expansion_pixels)

    def _plan(self, boxes: Tensor, image: Tensor) -> list[RoiAtlas]:
        return RoiAtlas.within_area(boxes, image, self.strides, self.min_crop_size, self.grid, self.max_atlas_pixels)

    def forward(
        self, features: list[Tensor], boxes: list[Boxes], image_sizes: list[tuple[int, int]]
    ) -> list[RaggedROIMasks]:
        """Masks of given boxes.

        Args:
            features: maps (N, C, H, W) in the order of ``in_features``.
            boxes: one ``Boxes`` per image, in input pixels, not enlarged; they are clipped to the image first, so that
                no prediction sizes a tensor beyond it.
            image_sizes: (height, width) of every input image, without padding.

        Returns:
            One :class:`RaggedROIMasks` per image, in the order of its boxes; a box too small for any level, or not
            finite, has an empty mask.
        """
        counts = [len(b) for b in boxes]
        clipped = torch.cat([clip_boxes(b.tensor.float(), size) for b, size in zip(boxes, image_sizes)])
        expanded = self.rois(clipped)
        atlases = self._plan(expanded, image_of_boxes(counts, expanded.device))
        probabilities = [
            self.predict(features, atlas)[0][:, 0].sigmoid() if len(atlas) else expanded.new_zeros(0)
            for atlas in atlases
        ]
        return RaggedROIMasks.from_atlases(atlases, probabilities, list(expanded.split(counts)), image_sizes)

    def losses(self, features: list[Tensor], targets: list[Instances]) -> dict[str, Tensor]:
        """Weighted losses of ROIs made from true boxes.

        Args:
            features: maps (N, C, H, W) in the order of ``in_features``.
            targets: one per image, with ``gt_boxes`` and ``gt_masks``.

        Returns:
            "loss_mask" (Eq. 7); by ``loss_type`` "loss_mask_dice"; with a weight "loss_mask_cldice"; with a refinement
            "loss_refine" (Eq. 8-9).
        """
        boxes = Boxes.cat([t.gt_boxes for t in targets]).tensor.to(
            torch.promote_types(features[0].dtype, torch.float32)
        )
        image = image_of_boxes([len(t) for t in targets], boxes.device)
        boxes = jitter_boxes(boxes, self.box_jitter_shift, self.box_jitter_scale)
        boxes = self.rois(boxes)
        truth = torch.arange(len(boxes), device=boxes.device)
        if self.max_train_roi_pixels:
            truth = sample_rois_within_area(boxes, image, len(targets), self.max_train_roi_pixels)
        atlases = self._plan(boxes[truth], image[truth])
        num_rois = sum(map(len, atlases))
        if not num_rois:
            # Keeps every parameter in the graph, which distributed training needs.
            zero = sum(f.sum() for f in features) * 0 + sum(p.sum() for p in self.parameters()) * 0
            return dict.fromkeys(self._loss_names(), zero)

        object_masks = ObjectMasks(targets)
        mask_losses, refine_losses = [], []
        for atlas in atlases:
            logits, ladder = self.predict(features, atlas)
            masks = object_masks.select(truth[atlas.order])
            logits = logits[:, 0]
            labels = masks.sample(atlas.grids[0].pixels.roi, *atlas.positions(0))
            mask_losses.append(self._mask_losses(atlas.canvases[0], logits, labels))
            if self.refinement is not None:
                refine_losses.append(self.refinement.loss(atlas, logits.detach().sigmoid(), ladder, masks))
        # Keeps every parameter in the graph, whichever levels these ROIs start from.
        unused = sum(p.sum() for p in self.entry.parameters()) * 0
        means = torch.cat(mask_losses, 1).mean(1)
        values = [weight * loss + unused for weight, loss in zip(self.mask_loss_weights.values(), means, strict=True)]
        if self.refinement is not None:
            values.append(self.refinement.mean_loss(refine_losses))
        losses = dict(zip(self._loss_names(), values, strict=True))
        storage = get_event_storage()
        storage.put_scalar("mask_head/num_rois", num_rois, smoothing_hint=False)
        num_pixels = sum(atlas.grids[0].num_pixels for atlas in atlases)
        storage.put_scalar("mask_head/num_pixels", num_pixels, smoothing_hint=False)
        return losses

    def _loss_names(self) -> list[str]:
        return [*self.mask_loss_weights, *(["loss_refine"] if self.refinement is not None else [])]

    def _mask_losses(self, canvas: RoiCanvas, logits: Tensor, labels: Tensor) -> Tensor:
        """One row (A,) for each of ``mask_loss_weights``: the loss of every ROI, not weighted."""
        grid, p = canvas.grid, logits.sigmoid()
        bce = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        rows = []
        if "loss_mask_dice" in self.mask_loss_weights:
            means = grid.mean(torch.stack([bce, p * labels, p, labels], 1))
            area = (grid.starts[1:] - grid.starts[:-1]).to(means.dtype)
            rows += [means[:, 0], soft_dice_loss(*(means[:, 1:] * area[:, None]).unbind(1))]
        else:
            rows.append(grid.mean(bce[:, None])[:, 0])
        if "loss_mask_cldice" in self.mask_loss_weights:
            rows.append(soft_cldice_loss(canvas, p, labels, self.cldice_iterations))
        return torch.stack(rows)
