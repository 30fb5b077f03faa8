"""From images to objects with a trained model: ``Predictor.from_pretrained(MODEL)(image)``."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import math
import numbers
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import nn

from ..engine.weights import TRAINING_ONLY
from ..modeling import ragged_masks
from ..modeling.meta_arch import averaged_orientations, finds_centers
from ..utils.allocator import keep_freed_memory
from .cpu_model import has_bfloat16, prepare_for_cpu
from .diameter import estimate_diameter
from .image_scale import Diameter, PixelSize, Scale, image_scale, warn_of_strong_reduction
from .instances import to_objects
from .model_info import ModelInfo
from .object_limits import may_hold_more, object_limits
from .objects import SegmentedObjects
from .options import HALO, ORIENTATIONS, PRECISIONS, TILE
from .precision import autocast
from .prediction import FileImage, Prediction, kept_open
from .prefetch import prefetch
from .preparation import ArraySource, Preparation, PreparedImage, as_pixels
from .receptive_field import receptive_field
from .score_bounds import centers_that_count
from .tiling import Tile, detect_tiles, merge_tiles, tile_grid

logger = logging.getLogger(__name__)

# A prediction changes settings of its model for as long as it takes. In the module, since models and predictors are
# copied to other processes, and several predictors may share one model.
_MODEL_IN_USE = threading.RLock()
# What a full halo adds for objects that reach from their center into it.
_OBJECT_REACH = 64


class Predictor:
    """Predicts images of any size with the model's own preparation: size, intensity mapping, channels, thresholds.

    Args:
        cfg: of the model.
        model: Detectron2's, in eval mode on its device. Images in tiles need an ``ObjectGuidedRCNN``.
        info: names and sizes; by default what the config says.
        score_threshold: instances below it are left out; None takes the model's own. 0 gives all down to
            MODEL.ROI_HEADS.SCORE_THRESH_TEST, which COCO AP is measured with.
        tile, halo: sides in the network's pixels; images larger than ``tile + 2 halo`` squared are predicted in tiles
            of ``tile``, and a tile reads ``halo`` around it. ``halo="full"`` is the receptive field and a typical
            object: what is found is then what an untiled run finds. ``tile=0`` predicts every image in one piece.
        tile_batch: tiles that go through the network at once.
        precision: "float32", or "bfloat16", which a CPU has to compute in itself (float32 takes its place otherwise,
            with a warning); None takes the model's own, SOLVER.AMP.
        orientations: 1, 2, 4 or 8: flips and right-angle turns of an image whose predictions are averaged, each at the
            cost of one; None takes the model's own, TEST.ORIENTATIONS.

    Making one lets freed memory stay with the process, see :func:`..utils.allocator.keep_freed_memory`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        *,
        info: ModelInfo | None = None,
        score_threshold: float | None = None,
        tile: int = TILE,
        halo: int | str = HALO,
        tile_batch: int = 1,
        precision: str | None = None,
        orientations: int | None = None,
    ) -> None:
        keep_freed_memory()
        self.cfg, self.model = cfg, model.eval()
        self.info = info or ModelInfo.from_config(cfg)
        self.score_threshold = self.info.score_threshold if score_threshold is None else score_threshold
        if halo == "full":
            halo = receptive_field(model) + _OBJECT_REACH
            logger.info("Tiles read the whole receptive field around them: %d pixels", halo)
        is_count = orientations is None or _is_whole(orientations)
        for name, value, valid, wanted in (
            ("score_threshold", self.score_threshold, _is_between(self.score_threshold, 0, 1), "a number from 0 to 1"),
            ("tile", tile, _is_whole(tile, 0), "a whole number, 0 or more"),
            ("halo", halo, _is_whole(halo, 0), "a whole number, 0 or more, or 'full'"),
            ("tile_batch", tile_batch, _is_whole(tile_batch, 1), "a whole number, 1 or more"),
            ("precision", precision, precision in (None, *PRECISIONS), f"None or one of {', '.join(PRECISIONS)}"),
            ("orientations", orientations, is_count and orientations in (None, *ORIENTATIONS), "None, 1, 2, 4 or 8"),
        ):
            if not valid:
                raise ValueError(f"{name}={value!r} is not valid; give {wanted}")
        self.tile, self.halo, self.tile_batch = tile, halo, tile_batch
        if precision == "bfloat16" and self.device.type == "cpu" and not has_bfloat16():
            logger.warning("This processor has no bfloat16; float32 takes its place")
            precision = "float32"
        self.precision = precision
        self.preparation = Preparation(cfg)
        self._can_tile = finds_centers(model)
        if (orientations or 1) > 1 and not self._can_tile:
            raise ValueError(f"orientations={orientations}: {cfg.MODEL.META_ARCHITECTURE} has no heatmap to average")
        self.orientations = orientations or len(getattr(model, "orientations", (None,)))

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike,
        *,
        weights: str | os.PathLike | None = None,
        device: str | None = None,
        prepare: bool = True,
        **kwargs: Any,
    ) -> Predictor:
        """Load a model; see :func:`.pretrained.load_pretrained` for what names one.

        Args:
            prepare: on a CPU, prepare the model for inference, see :func:`.cpu_model.prepare_for_cpu`.
            kwargs: of :class:`Predictor`.
        """
        from .pretrained import load_pretrained

        loaded = load_pretrained(model, weights=weights, device=device)
        predictor = cls(loaded.cfg, loaded.model, info=loaded.info, **kwargs)
        if prepare and predictor.device.type == "cpu":
            # The hash is that of the weights as they are stored, whatever they become here.
            _ = predictor.model_hash
            prepare_for_cpu(predictor.model)
        return predictor

    def __call__(
        self,
        image: Any,
        *,
        channel_axis: int | None = None,
        pixel_size: PixelSize = None,
        scale: Scale = None,
        diameter: Diameter = None,
        on_tile: Callable[[int, int], None] = lambda done, total: None,
    ) -> Prediction:
        """Predict one image.

        Args:
            image: (H, W) or (H, W, 3), with ``channel_axis`` (3, H, W) too, of bool, any integer or any float type; the
                path of a file; or an open :class:`.image_source.ImageSource`, which may be a frame or chosen channels.
            pixel_size: micrometers per pixel, or (height, width) of a pixel; by default the source's own. Where the
                model knows its own, the image is scaled to it; a source's own by which it would be scaled more than
                16-fold is ignored with a warning.
            scale: pixels of the network per pixel of the image, whatever the sizes say; "config" for the config's size.
            diameter: of objects in the image's pixels, one number, which scales them to those of the training, in place
                of ``scale``; "auto" estimates it, and leaves the usual size, with a warning, if no object is found.
            on_tile: called with the tiles done and all of them.

        Raises:
            ValueError: says what is wrong with an image, or with a size that the model has none to compare with.
            SourceError, ImportError: for a path, see :func:`.image_source.open_image`.
        """
        prepared = self.prepare(image, channel_axis=channel_axis, pixel_size=pixel_size, scale=scale, diameter=diameter)
        return self.predict_prepared([prepared], on_tile=on_tile)[0]

    def predict_batch(self, images: Sequence[Any], **options: Any) -> list[Prediction]:
        """Predict images together: those of one size go through the network at once.

        Args:
            options: of :meth:`prepare`, for all of them.
        """
        return self.predict_prepared([self.prepare(image, **options) for image in images])

    def predict_stream(
        self, images: Iterable[Any], *, batch_size: int = 1, ahead: int = 4, **options: Any
    ) -> Iterator[Prediction]:
        """Predict images in order, while a thread reads and prepares the next ones.

        Args:
            images: of :meth:`__call__`. The iterable runs in the thread.
            batch_size: consecutive images that go through the network at once, where their sizes allow it.
            ahead: images that are prepared before they are asked for.
            options: of :meth:`prepare`, for all of them.

        Raises:
            ValueError: as a call, with the first image that is asked for; for ``batch_size`` or ``ahead`` below 1 too.
        """
        for name, value in (("batch_size", batch_size), ("ahead", ahead)):
            if not _is_whole(value, 1):
                raise ValueError(f"{name}={value!r} is not valid; give 1 or more")
        batch: list[PreparedImage] = []
        for prepared in prefetch((self.prepare(image, **options) for image in images), ahead):
            batch.append(prepared)
            if len(batch) == batch_size:
                yield from self.predict_prepared(batch)
                batch = []
        yield from self.predict_prepared(batch)

    def prepare(
        self,
        image: Any,
        *,
        channel_axis: int | None = None,
        pixel_size: PixelSize = None,
        scale: Scale = None,
        diameter: Diameter = None,
    ) -> PreparedImage:
        """The part of a prediction that needs no network, for another thread; arguments are those of a call."""
        if channel_axis is not None and not _is_whole(channel_axis):
            raise ValueError(f"channel_axis={channel_axis!r} is not valid; give a whole number")
        if isinstance(image, (str, os.PathLike)):
            from .image_source import open_image

            with open_image(image) as opened:
                file = FileImage(opened)
                prepared = self.prepare(opened, pixel_size=pixel_size, scale=scale, diameter=diameter)
            return dataclasses.replace(prepared, source=file, image=file)
        if hasattr(image, "read") and hasattr(image, "sample"):
            source = image
            if getattr(image, "num_channels", 1) not in (1, 3):
                raise ValueError(f"the image has {image.num_channels} channels; choose 1 or 3 of them")
        else:
            image = as_pixels(image, channel_axis)
            source = ArraySource(image)
        intensity = self.preparation.intensity_of(source)
        factors, pixel_size = image_scale(
            source,
            self.info,
            scale=scale,
            diameter=diameter,
            pixel_size=pixel_size,
            estimate=lambda: estimate_diameter(source, intensity, self.preparation, self._objects_of),
        )
        size = self.preparation.network_size(*source.shape, factors)
        if factors is None and scale != "config" and not self.cfg.INPUT.TEST_SCALE > 0:
            warn_of_strong_reduction(source.shape, size)
        whole = None if self._needs_tiles(size) else self.preparation.whole(source, intensity, size)
        return PreparedImage(source, image, size, intensity, pixel_size, whole)

    @torch.no_grad()
    def predict_prepared(
        self,
        images: Sequence[PreparedImage],
        on_tile: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Prediction]:
        """Predictions of prepared images, in their order."""
        predictions: list[Prediction | None] = [None] * len(images)
        by_size: dict[tuple, list[int]] = {}
        for index, image in enumerate(images):
            if image.whole is None:
                predictions[index] = self._predict_tiles(image, on_tile)
            else:
                by_size.setdefault((tuple(image.whole.shape), tuple(image.source.shape)), []).append(index)
        for indices in by_size.values():
            inputs = [
                {"image": images[i].whole, "height": images[i].source.shape[0], "width": images[i].source.shape[1]}
                for i in indices
            ]
            first = images[indices[0]]
            with self._precision(), self._set_up(first, first.network_size) as limit, ragged_masks(self.model):
                outputs = self.model(inputs)
            for index, output in zip(indices, outputs):
                instances = output["instances"]
                kept = instances[instances.scores >= self.score_threshold]
                at_limit = "all_scores" in output and may_hold_more(output["all_scores"], limit, self.score_threshold)
                predictions[index] = self._to_prediction(kept, images[index], at_limit=at_limit)
        return predictions

    @property
    def device(self) -> torch.device:
        """Of the model, wherever it has been moved."""
        return next(self.model.parameters()).device

    @functools.cached_property
    def model_hash(self) -> str:
        """sha256 of all that makes the model: config, weights and class names."""
        digest = hashlib.sha256(self.cfg.INPUT.dump().encode() + self.cfg.TEST.dump().encode())
        model_cfg = self.cfg.MODEL.clone()
        model_cfg.defrost()
        model_cfg.WEIGHTS, model_cfg.DEVICE = "", ""
        digest.update(model_cfg.dump().encode() + repr(self.info).encode())
        for name, value in sorted(self.model.state_dict().items()):
            # A bundle lacks these: they are random, and others in each process.
            if name.startswith(TRAINING_ONLY):
                continue
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def most_pixels_at_once(self) -> float:
        """Pixels of the largest image that is predicted in one piece."""
        return (self.tile + 2 * self.halo) ** 2 if self.tile else math.inf

    def _needs_tiles(self, size: tuple[int, int]) -> bool:
        if size[0] * size[1] <= self.most_pixels_at_once:
            return False
        if not self._can_tile:
            logger.warning(
                "%s cannot be predicted in tiles: %d x %d pixels at once", self.cfg.MODEL.META_ARCHITECTURE, *size
            )
        return self._can_tile

    def _predict_tiles(self, image: PreparedImage, on_tile: Callable[[int, int], None]) -> Prediction:
        return self.merge_rows(image, self.detect_rows(image, on_tile=on_tile))

    def num_rows(self, image: PreparedImage) -> int:
        """Rows of tiles of an image; 0 for one that is predicted in one piece."""
        return 0 if image.whole is not None else len({tile.core[0] for tile in self._tiles(image)})

    def detect_rows(
        self,
        image: PreparedImage,
        rows: slice = slice(None),
        on_tile: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Instances]:
        """What some rows of tiles hold, for :meth:`merge_rows`, see :func:`.tiling.detect_tiles`.

        Args:
            image: one with rows.
            rows: which of them; the same in any process.
        """
        tiles = self._tiles(image)
        tops = sorted({tile.core[0] for tile in tiles})[rows]
        tiles = [tile for tile in tiles if tile.core[0] in tops]
        side = self.tile + 2 * self.halo
        with kept_open(image.source) as source, self._set_up(image, (side, side)) as limit:
            return detect_tiles(
                self.model,
                tiles,
                lambda region: self.preparation.part(source, image.intensity, image.network_size, region),
                image.network_size,
                tuple(image.source.shape),
                score_threshold=self.score_threshold,
                batch_size=self.tile_batch,
                limit=limit,
                autocast=self._precision,
                on_tile=lambda done: on_tile(done, len(tiles)),
            )

    def merge_rows(self, image: PreparedImage, found: Sequence[Instances]) -> Prediction:
        """The prediction of an image from what all of its rows hold, in their order."""
        instances = merge_tiles(found, tuple(image.source.shape), self.model.postprocessor)
        num_cut = int(instances.is_cut.sum())
        if num_cut:
            reason = "reach beyond the halo of %d pixels around their tile and may lack a part: raise halo"
            logger.warning(f"%d of %d objects {reason}", num_cut, len(instances), self.halo)
        return self._to_prediction(instances, image, num_cut, bool(instances.at_limit.any()))

    @contextlib.contextmanager
    def _set_up(self, image: PreparedImage, size: tuple[int, int]) -> Iterator[float]:
        """Meanwhile the model averages ``orientations``, leaves out what cannot reach ``score_threshold``, and has room
        for the objects of a part of ``size`` of an image: at the size that the config gives images, those of the
        config. Yields the limit of detections."""
        height, width = self.preparation.usual_size(*image.source.shape)
        factor = size[0] * size[1] / (height * width)
        with (
            _MODEL_IN_USE,
            averaged_orientations(self.model, self.orientations),
            centers_that_count(self.model, self.score_threshold),
            object_limits(self.model, factor) as limit,
        ):
            yield limit

    def _objects_of(self, image: PreparedImage) -> SegmentedObjects:
        return self.predict_prepared([image])[0].objects

    def _tiles(self, image: PreparedImage) -> list[Tile]:
        return tile_grid(image.network_size, self.tile, self.halo, self.model.backbone.size_divisibility)

    def _to_prediction(
        self, instances: Instances, image: PreparedImage, num_cut: int = 0, at_limit: bool = False
    ) -> Prediction:
        if not instances.has("pred_masks"):
            raise ValueError(f"{self.cfg.MODEL.META_ARCHITECTURE} predicts no masks; set MODEL.MASK_ON to True")
        objects, kept = to_objects(instances, self.info.class_names, image.pixel_size)
        boxes = instances.pred_boxes.tensor.float().cpu().numpy()[kept]
        if at_limit:
            logger.warning(
                "An image of %d x %d may hold more than the %d objects found: the model's limits are reached; raise "
                "MODEL.CENTER_HEAD.TOPK and TEST.DETECTIONS_PER_IMAGE in its config",
                *image.source.shape,
                len(objects),
            )
        return Prediction(objects, image.image, boxes, image.network_size, num_cut, at_limit)

    def _precision(self) -> contextlib.AbstractContextManager:
        return autocast(self.cfg, self.device, self.precision)


def _is_whole(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, numbers.Integral) and int(value) >= least


def _is_between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, numbers.Real) and low <= float(value) <= high
