"""From a dataset dict to what the models take, for training and testing and for every method alike."""

import pickle
import zlib
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks

from .coco_validation import size_mismatch
from .copy_paste import paste_instances
from .crowd_region import merge_crowds, transform_region
from .intensity import IntensityMapping
from .label_layers import pack_masks, transform_layer, unpack_masks
from .pixels import read_image
from .segmentation import segmentation_to_rle
from .transforms import ObjectSizeAugInput, build_augmentation

Value = TypeVar("Value")


class DecodedImage(NamedTuple):
    """An image, (H, W, C) uint8, and its instances as label layers (see label_layers.py); no layers for polygons.

    ``crowd`` is the (H, W) uint8 region of crowd_region.py, if the image has any crowd; ``object_size`` that of
    :func:`median_object_size`.
    """

    image: np.ndarray
    layers: list[np.ndarray]
    crowd: np.ndarray | None
    object_size: float

    @property
    def num_bytes(self) -> int:
        arrays = [self.image, *self.layers] if self.crowd is None else [self.image, *self.layers, self.crowd]
        return sum(array.nbytes for array in arrays)


class AugmentedImage(NamedTuple):
    """An image, (H', W', C) uint8, and in training its instances and its (H', W') bool crowd region, if any."""

    image: np.ndarray
    instances: Instances | None
    ignore_region: np.ndarray | None


class BoundedCache:
    """Keeps what was loaded until ``max_bytes`` are used, then loads the rest anew each time.

    Nothing is ever thrown out: training visits every image once per epoch in random order, so what was used last is
    no likelier to come next than anything else.
    """

    def __init__(self, max_bytes: int) -> None:
        self.free_bytes = max_bytes
        self._values: dict = {}

    def get(self, key: Hashable, load: Callable[[], Value], num_bytes: Callable[[Value], int]) -> Value:
        """The value of ``key``: the one kept, or that of ``load()``, kept if its ``num_bytes`` are still free."""
        if key in self._values:
            return self._values[key]
        value = load()
        size = num_bytes(value)
        if size <= self.free_bytes:
            self.free_bytes -= size
            self._values[key] = value
        return value


class InstanceMapper:
    """Reads and augments one image with its instances.

    Random numbers are NumPy's global ones, which Detectron2 seeds in each loader process.

    Args:
        is_train: whether to return instances.
        augmentations: applied in this order; every one must transform segmentations by nearest pixels.
        image_format: channel order, a format of ``detection_utils.read_image``.
        mask_format: "bitmask" or "polygon"; the latter needs polygon annotations.
        cache_bytes: memory for decoded images of this process.
        intensity: how images of more than 8 bits become 8 bits (intensity.py); None refuses them.
        copy_paste_prob: chance that objects of one of ``paste_source`` are pasted over a training image.
        paste_source: dataset dicts with objects, see ``copy_paste.py``.
        ignore_crowd: whether training samples say where the image has crowds; otherwise crowds are dropped.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: list[T.Augmentation],
        image_format: str,
        mask_format: str = "bitmask",
        cache_bytes: int = 0,
        intensity: IntensityMapping | None = None,
        copy_paste_prob: float = 0.0,
        paste_source: Sequence[dict] = (),
        ignore_crowd: bool = True,
    ) -> None:
        if mask_format not in ("bitmask", "polygon"):
            raise ValueError(f"INPUT.MASK_FORMAT is {mask_format!r}; use 'bitmask' or 'polygon'")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.mask_format = mask_format
        self.cache = BoundedCache(cache_bytes)
        self.intensity = intensity
        self.copy_paste_prob = copy_paste_prob if is_train else 0.0
        self.paste_source = paste_source
        self.ignore_crowd = ignore_crowd and is_train

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True, paste_source: Sequence[dict] = ()) -> dict:
        if cfg.INPUT.COPY_PASTE_PROB > 0 and not (cfg.INPUT.SQUARE_CROP.ENABLED and cfg.INPUT.MASK_FORMAT == "bitmask"):
            raise ValueError(
                "INPUT.COPY_PASTE_PROB needs images of one size and masks: set INPUT.SQUARE_CROP.ENABLED to True and "
                "INPUT.MASK_FORMAT to 'bitmask', or INPUT.COPY_PASTE_PROB to 0"
            )
        return {
            "is_train": is_train,
            "augmentations": build_augmentation(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "mask_format": cfg.INPUT.MASK_FORMAT,
            # A test image is read once.
            "cache_bytes": int(cfg.INPUT.CACHE_MEGABYTES * 2**20) if is_train else 0,
            "intensity": IntensityMapping.parse(cfg.INPUT.INTENSITY) if cfg.INPUT.INTENSITY else None,
            "copy_paste_prob": cfg.INPUT.COPY_PASTE_PROB,
            "paste_source": paste_source,
            "ignore_crowd": cfg.INPUT.IGNORE_CROWD_IN_TRAINING,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: one image in Detectron2's standard format; not modified.

        Returns:
            a copy of it without "annotations", with "image", a (C, H', W') uint8 tensor, and in training
            "instances", in the frame of that image: gt_boxes (XYXY, tight around the mask, right and bottom edges
            exclusive), gt_classes and gt_masks. Objects without a pixel left are dropped, and crowds are no instances.
            Where a pixel of a crowd is left, "ignore_region" is the (H', W') bool tensor of all crowds, without the
            pixels of annotated objects and False outside of the image; so for either mask format, since a crowd may
            have polygons, RLE or a mask in both. A crowd without a segmentation has no region.
        Raises:
            SizeMismatchError, ValueError: image or annotation do not fit together; the file is named.
        """
        sample = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        augmented = self._augmented(sample, dataset_dict.get("annotations", ()))
        if self.copy_paste_prob and self.paste_source and np.random.uniform() < self.copy_paste_prob:
            other = self.paste_source[np.random.randint(len(self.paste_source))]
            source = self._augmented({**other}, other["annotations"])
            chosen = np.random.uniform(size=len(source.instances)) < 0.5
            augmented = AugmentedImage(*paste_instances(*augmented, source.image, source.instances, chosen))
        # A copy, so that nobody writes into the cached image.
        sample["image"] = torch.from_numpy(augmented.image.transpose(2, 0, 1).copy())
        if self.is_train:
            sample["instances"] = augmented.instances
        if augmented.ignore_region is not None and augmented.ignore_region.any():
            sample["ignore_region"] = torch.from_numpy(augmented.ignore_region)
        return sample

    def _augmented(self, sample: dict, annotations: Sequence[dict]) -> AugmentedImage:
        objects = [a for a in annotations if not a.get("iscrowd", 0)] if self.is_train else []
        crowds = [a for a in annotations if a.get("iscrowd", 0) and "segmentation" in a] if self.ignore_crowd else []
        decoded = self.cache.get(
            # Other datasets may have other objects in the same image.
            key=(sample["file_name"], sample.get("image_id"), zlib.crc32(pickle.dumps([objects, crowds]))),
            load=lambda: self._decode(sample, objects, crowds),
            num_bytes=lambda value: value.num_bytes,
        )
        augmented = ObjectSizeAugInput(decoded.image, decoded.object_size)
        transforms = self.augmentations(augmented)
        image_size = augmented.image.shape[:2]
        if not self.is_train:
            return AugmentedImage(augmented.image, None, None)
        if self.mask_format == "bitmask":
            instances = _bitmask_instances(decoded.layers, objects, transforms, image_size)
        else:
            instances = _polygon_instances(sample["file_name"], objects, transforms, image_size)
        ignore_region = None if decoded.crowd is None else transform_region(decoded.crowd, transforms)
        return AugmentedImage(augmented.image, instances, ignore_region)

    def _decode(self, sample: dict, objects: list[dict], crowds: list[dict]) -> DecodedImage:
        image = read_image(sample["file_name"], self.image_format, self.intensity)
        try:
            detection_utils.check_image_size(sample, image)
        except detection_utils.SizeMismatchError as error:
            stated = sample["height"], sample["width"]
            message = f"image {sample['file_name']} {size_mismatch(image.shape[:2], stated)}"
            raise detection_utils.SizeMismatchError(message) from error
        object_size = median_object_size(objects)
        needs_layers = self.is_train and self.mask_format == "bitmask"
        if not needs_layers and not crowds:
            return DecodedImage(image, [], None, object_size)
        height, width = image.shape[:2]
        rles = _to_rles(f"{sample['file_name']}, annotation", objects, height, width)
        crowd_rles = _to_rles(f"{sample['file_name']}, crowd region", crowds, height, width)
        return DecodedImage(
            image,
            pack_masks(rles, height, width) if needs_layers else [],
            merge_crowds(crowd_rles, rles) if crowds else None,
            object_size,
        )


def median_object_size(annotations: Sequence[dict]) -> float:
    """Median over ``annotations`` of the root of their boxes' width x height, in pixels; 0 for none."""
    boxes = [
        BoxMode.convert(a["bbox"], BoxMode(a.get("bbox_mode", BoxMode.XYXY_ABS)), BoxMode.XYWH_ABS)
        for a in annotations
        if "bbox" in a
    ]
    return float(np.median([np.sqrt(width * height) for _, _, width, height in boxes])) if boxes else 0.0


def _to_rles(name: str, annotations: list[dict], height: int, width: int) -> list[dict]:
    rles = []
    for index, annotation in enumerate(annotations):
        try:
            rles.append(segmentation_to_rle(annotation["segmentation"], height, width))
        except (KeyError, ValueError) as error:
            raise ValueError(f"{name} {index}: {error}") from error
    return rles


def _bitmask_instances(
    layers: list[np.ndarray], annotations: list[dict], transforms: T.TransformList, image_size: tuple[int, int]
) -> Instances:
    layers = [transform_layer(layer, transforms) for layer in layers]
    indices, masks, boxes = unpack_masks(layers, len(annotations))
    classes = np.array([annotations[index]["category_id"] for index in indices], dtype=np.int64)
    return Instances(
        image_size,
        gt_boxes=Boxes(torch.from_numpy(boxes)),
        gt_classes=torch.from_numpy(classes),
        gt_masks=BitMasks(torch.from_numpy(masks)),
    )


def _polygon_instances(
    file_name: str, annotations: list[dict], transforms: T.TransformList, image_size: tuple[int, int]
) -> Instances:
    polygons, classes = [], []
    for index, annotation in enumerate(annotations):
        segmentation = annotation.get("segmentation")
        if not isinstance(segmentation, list):
            raise ValueError(
                f"{file_name}, annotation {index}: no polygons; set INPUT.MASK_FORMAT to 'bitmask' for other masks"
            )
        parts = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation]
        if parts := transforms.apply_polygons(parts):
            polygons.append([part.reshape(-1) for part in parts])
            classes.append(annotation["category_id"])
    masks = PolygonMasks(polygons)
    boxes = masks.get_bounding_boxes()
    boxes.clip(image_size)
    instances = Instances(
        image_size, gt_boxes=boxes, gt_classes=torch.tensor(classes, dtype=torch.int64), gt_masks=masks
    )
    return instances[masks.area() >= 1]
