"""Every config key of this project: its default is the paper's setting unless the comment says otherwise.

Sections and equations are those of Yi et al., "Object-Guided Instance Segmentation With Auxiliary Feature
Refinement for Biological Images", IEEE TMI 2021. "(released)" marks a value that the paper leaves open and the
authors' released program sets. Keys that Detectron2 has already keep their meaning: ``ROI_HEADS.NUM_CLASSES``,
``ROI_HEADS.SCORE_THRESH_TEST``, ``TEST.DETECTIONS_PER_IMAGE``, ``RESNETS.*``, ``INPUT.*``, ``SOLVER.*``.
"""

import os

import yaml
from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.projects.point_rend import add_pointrend_config

# Whoever has our keys builds our models and loads our datasets: Detectron2 knows both from here on.
from . import modeling  # noqa: F401
from .config_files import get_config_file
from .data import builtin  # noqa: F401

# What Detectron2 and YAML raise for a config that cannot be read or whose keys and values do not fit.
CONFIG_ERRORS = (KeyError, AssertionError, ValueError, OSError, yaml.YAMLError)


def config_error_reason(error: Exception) -> str:
    """The first line of what one of ``CONFIG_ERRORS`` says, and of malformed YAML the place."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"
    # The text of a KeyError is the repr of its message.
    return str(error.args[0] if isinstance(error, KeyError) else error).splitlines()[0]


def get_cfg(config_file: str | os.PathLike | None = None) -> CN:
    """Detectron2's defaults with PointRend's keys and ours added, and a file's values over them.

    Args:
        config_file: a path or a name, see :func:`.config_files.get_config_file`.

    Raises:
        UnknownConfigError: if there is no such file.
    """
    cfg = get_detectron2_cfg()
    add_pointrend_config(cfg)
    add_objguided_config(cfg)
    if config_file is not None:
        cfg.merge_from_file(get_config_file(config_file))
    return cfg


def add_objguided_config(cfg: CN) -> None:
    """Add our keys to ``cfg`` in place. No default of Detectron2's ``get_cfg`` is changed.

    That is all a config of ours needs. The PointRend baselines' need Detectron2's ``add_pointrend_config`` before it:
    both add MODEL.ROI_MASK_HEAD.IN_FEATURES, and our default has to stay.
    """
    _add_backbone(cfg)
    _add_center_head(cfg)
    _add_mask_head(cfg)
    _add_keypoint_graph(cfg)
    _add_dcan(cfg)
    _add_cosine_embedding(cfg)
    _add_input(cfg)
    _add_solver(cfg)
    _add_test(cfg)


def _add_backbone(cfg: CN) -> None:
    unet = cfg.MODEL.UNET = CN()
    # Channels of c1, the stride-1 map made by two 3x3 convolutions on the image (released).
    unet.C1_CHANNELS = 64
    # Channels of c3, c4, c5. 0 = those of the encoder stage that the map is merged with (II-A).
    unet.DECODER_CHANNELS = [0, 0, 0]
    # Project the encoder map by a 1x1 convolution before it is concatenated. Ours: needed when
    # DECODER_CHANNELS differ from the encoder's, which is how the small model saves most of its work.
    unet.LATERAL = False
    # Norm of Module B: any name of detectron2.layers.get_norm (II-A).
    unet.NORM = "BN"


def _add_center_head(cfg: CN) -> None:
    head = cfg.MODEL.CENTER_HEAD = CN()
    # The map the head sits on; its stride n is 4 in the paper (II-A.3).
    head.IN_FEATURE = "c3"
    # Channels between the two convolutions of each branch.
    head.CONV_DIM = 256
    # Kernel of both convolutions of the width-height branch, odd (released: 7).
    head.WH_KERNEL = 7
    # Probability the heatmap starts from; 0.1 gives the released bias of -2.19.
    head.HEATMAP_PRIOR = 0.1
    # How far a box may move in the Gaussian target and keep MIN_OVERLAP: "cornernet" = that program's formulas, which
    # the published numbers come from; "iou" = the exact guarantee.
    head.GAUSSIAN_RULE = "cornernet"
    head.GAUSSIAN_MIN_OVERLAP = 0.7
    # "diameter_sixth": sigma = (2 r + 1) / 6 with integer r (released); "radius_third": sigma = r / 3 (II-A.1).
    head.GAUSSIAN_SIGMA = "diameter_sixth"
    # Focal loss exponents of Eq. 1.
    head.FOCAL_ALPHA = 2.0
    head.FOCAL_BETA = 4.0
    # "smooth_l1" (Eq. 3) or "l1"; the threshold of the former is in stride-n units.
    head.REG_LOSS_TYPE = "smooth_l1"
    head.SMOOTH_L1_BETA = 1.0
    head.HEATMAP_LOSS_WEIGHT = 1.0
    head.WH_LOSS_WEIGHT = 0.1  # (released)
    head.OFFSET_LOSS_WEIGHT = 1.0  # (released)
    # Peaks kept per image before the score threshold ROI_HEADS.SCORE_THRESH_TEST (released: 500).
    head.TOPK = 500


def _add_mask_head(cfg: CN) -> None:
    head = cfg.MODEL.ROI_MASK_HEAD
    # The maps that ROIs are cropped from, finest first (II-B).
    head.IN_FEATURES = ["c1", "c2", "c3", "c4", "c5"]
    # Channels of e4, e3, e2, e1, deepest first. 0 = those of the map the level is merged with (II-B).
    head.LADDER_CHANNELS = [0, 0, 0, 0]
    # Learned scale and shift in the instance norm of Module S (Eq. 6). The released program has none.
    head.NORM_AFFINE = True
    # Channels between the two convolutions of SegHead.
    head.SEG_HEAD_DIM = 64
    # An ROI is its box enlarged by this factor in width and height (released: 1.1) ...
    head.BOX_EXPANSION = 1.1
    # ... and by this many input pixels in all. Ours: 10 % of a nucleus of 10 px is less than the box error.
    head.BOX_EXPANSION_PIXELS = 0.0
    # Training ROIs come from true boxes (II-B). Ours, off by default: standard deviations of a random shift and of a
    # random log scale, in units of the box size, so that the head meets boxes as imprecise as detected ones.
    head.BOX_JITTER_SHIFT = 0.0
    head.BOX_JITTER_SCALE = 0.0
    # How the pixels of a crop lie in its box: "edges" = evenly, both edges included (II-B); "centers" = the centers of
    # equal parts (ours); "released" = as "edges", in the released program's coordinates, which its checkpoints need.
    # structures/roi_atlas.py states all three.
    head.GRID = "edges"
    # Crops under this many grid points in either direction are left out, with all deeper ones (released: 2).
    head.MIN_CROP_SIZE = 2
    # Stride-1 pixels of training ROIs per image, the ROI that reaches the number included; 0 = no bound. ROIs are
    # drawn at random, all objects with the same chance. Ours: images with hundreds of objects would decide the memory
    # and time of every step.
    head.MAX_TRAIN_ROI_PIXELS = 0
    # Stride-1 pixels of ROIs that are processed at once, 0 = no bound; more are processed in chunks, with the same
    # results, and a single ROI with more is sampled at that many pixels. Ours: bounds memory.
    head.MAX_ATLAS_PIXELS = 524288
    # "bce" (Eq. 7) or "bce_dice", which adds a soft Dice loss per ROI (ours, for small objects). Both weights are
    # absolute: loss_mask = LOSS_WEIGHT x cross-entropy, loss_mask_dice = DICE_LOSS_WEIGHT x Dice loss; 0 turns one off.
    head.LOSS_TYPE = "bce"
    head.LOSS_WEIGHT = 2.0  # (released)
    head.DICE_LOSS_WEIGHT = 1.0
    # Weight of a soft clDice loss per ROI, loss_mask_cldice; 0 = without. Ours, against masks in pieces (IV-H.1): a gap
    # in a thin object costs much (Shit et al., CVPR 2021; modeling/cldice.py). CLDICE_ITERATIONS are the erosions of
    # its skeletons: at least the half width, in pixels of the input, of the widest objects that may not break.
    # On neurons 0.5 gained 0.7 AP, but made no fewer pieces (docs/results-table1.md).
    head.CLDICE_LOSS_WEIGHT = 0.0
    head.CLDICE_ITERATIONS = 10
    # Probability from which a pixel belongs to the object (released: 0.53).
    head.MASK_THRESH = 0.53
    # "hough": bilinear votes at input resolution, then nearest-neighbor resize to the output (II-B, released).
    # "bilinear": every output pixel samples the ROI's mask; ours, smoother when the output is larger than the input.
    head.PASTE_MODE = "hough"
    # Of a mask in several pieces (8-connected) keep the largest. Ours, against masks in pieces (IV-H.1): 35 in place of
    # 233 of 1,000 leaves are broken; masks gain in AP, boxes lose (docs/results-table1.md).
    head.LARGEST_PIECE = False
    # Recompute each box from its mask (released).
    head.BOXES_FROM_MASKS = True
    # An instance's score is the geometric mean of that of its center and of the soft IoU of its mask to this power, 0 =
    # the center's alone (III-B). Ours: a center says that there is an object, and AP asks for the best masks first.
    head.SCORE_SOFT_IOU_POWER = 0.0
    # Suppress an instance whose mask has more IoU than this with a better one of its class; 1 = off (released: 0.2).
    head.MASK_NMS_THRESH = 0.2

    refine = head.REFINE = CN()  # Auxiliary feature refinement, training only (II-C).
    refine.ENABLED = True
    # An ROI of H x W pixels has N = H W / D; k N points are drawn and the beta N most uncertain are kept. beta = k
    # means uniform sampling (Table II).
    refine.K = 3.0
    refine.BETA = 0.75
    refine.D = 8.0
    refine.LOSS_WEIGHT = 1.0
    # "mean" = one mean over the terms of both RefineHead outputs (released); "sum" = the mean of each, added up.
    refine.REDUCTION = "mean"


def _add_keypoint_graph(cfg: CN) -> None:
    # A baseline: Yi et al., "Multi-scale Cell Instance Segmentation with Keypoint Graph Based Bounding Boxes", MICCAI
    # 2019, and its released program. Masks follow ROI_MASK_HEAD.
    graph = cfg.MODEL.KEYPOINT_GRAPH = CN()
    # The encoder's maps that the decoder starts from and merges, finest first.
    graph.IN_FEATURES = ["c1", "c2", "res2", "res3", "res4"]
    # Channels of the decoder's maps at strides 8, 4, 2, 1. 0 = those of the encoder map that is merged in.
    graph.DECODER_CHANNELS = [0, 0, 0, 0]
    # Kernel of both convolutions of each head, odd (released: 7).
    graph.HEAD_KERNEL = 7
    # Of the discs around keypoints, in cells of each scale: the cells that vote, and the unit of offsets in the losses.
    graph.RADIUS = 5.0
    graph.KEYPOINT_LOSS_WEIGHT = 1.0
    graph.SHORT_OFFSET_LOSS_WEIGHT = 1.0
    graph.MID_OFFSET_LOSS_WEIGHT = 0.25
    # Standard deviation in cells of the Gaussian that smooths votes; single votes make no peaks then (released: 2).
    graph.BLUR_SIGMA = 2.0
    # Smoothed votes of a keypoint, at least; a perfect one has 0.04 (released: 0.004).
    graph.PEAK_THRESH = 0.004
    # Keypoints kept per image, class, kind and scale. Ours: bounds what an untrained network asks for.
    graph.TOPK = 500
    # Cells between a keypoint of a group and another of its kind that may start a group (released: 10).
    graph.START_DISTANCE = 10.0
    # Keypoints lie where the short offset of their cell points, not at the cell. Ours: at stride 8 a cell is 8 pixels.
    graph.SUBCELL_PEAKS = False
    # Boxes of all scales with more IoU than this with a better one of their class are dropped (released: 0.5).
    graph.BOX_NMS_THRESH = 0.5


def _add_dcan(cfg: CN) -> None:
    """Keys of the meta-architecture "DCAN": Chen et al., Medical Image Analysis 2017."""
    dcan = cfg.MODEL.DCAN = CN()
    # The three deepest resolutions. Ours: a ResNet, which starts from ImageNet as well, is the paper's VGG-like path.
    dcan.IN_FEATURES = ["res3", "res4", "res5"]
    # Channels that the learned upsampling of each takes. Ours: from scores alone it cannot draw less than a cell.
    dcan.HIDDEN_CHANNELS = 64
    # Norm of the convolution before it: any name of detectron2.layers.get_norm. Ours, as of the backbone.
    dcan.NORM = "BN"
    # The true outlines are dilated with a disc of this radius, in pixels of the network.
    dcan.CONTOUR_RADIUS = 3
    # What is object and not contour is opened with a disc of this radius, in pixels of the network; 0 = not at all.
    dcan.SMOOTHING_RADIUS = 3
    # Pieces of fewer pixels of the network are removed. Ours: a disc of radius 2 has 13.
    dcan.MIN_AREA = 13
    # How often a pixel of a contour counts in its loss. Ours: contours are the fewer pixels, and objects that touch
    # merge where one is missed.
    dcan.CONTOUR_WEIGHT = 2.0
    # The loss of the single maps starts at weight 1 and falls to a tenth after each so many iterations. Ours: a fifth
    # of the 100 epochs of DSB2018.
    dcan.AUX_DECAY_PERIOD = 1000


def _add_cosine_embedding(cfg: CN) -> None:
    """Keys of the meta-architecture "CosineEmbedding": Payer et al., Medical Image Analysis 2019."""
    embedding = cfg.MODEL.COSINE_EMBEDDING = CN()
    # Channels of an embedding.
    embedding.EMBEDDING_CHANNELS = 16
    # Channels of the maps at full resolution and of the second hourglass. The first has those of MODEL.UNET: the
    # backbone, which starts from ImageNet, is its way down (ours).
    embedding.CHANNELS = 64
    # Strides of the second hourglass: 1, 2, 4, ...
    embedding.NUM_LEVELS = 5
    # Norm of both hourglasses: any name of detectron2.layers.get_norm. Ours: without one, training is slower.
    embedding.NORM = "BN"
    # An object's embedding is to differ from those of other pixels within this distance, in pixels of the network.
    embedding.NEIGHBOR_DISTANCE = 15
    # Clustering, ours where the paper leaves it open. A pixel's distance adds this to that of embeddings, in which
    # neighbors are 1.41 apart ...
    embedding.COORDINATE_SCALE = 0.05
    # ... those of fewer pixels of the network are no objects ...
    embedding.MIN_AREA = 13
    # ... and about so many pixels are clustered at most; the rest joins. More take time by their square.
    embedding.MAX_SAMPLES = 5000


def _add_input(cfg: CN) -> None:
    crop = cfg.INPUT.SQUARE_CROP = CN()
    # Train on square crops resampled to OUTPUT_SIZE, in place of Detectron2's short-edge resize and INPUT.CROP.
    crop.ENABLED = False
    # The side of a crop, in source pixels, is a random factor in RANGE times this side of the image: "longer"
    # (released, 0.6 to 1.3 in steps of 0.1) or "shorter" (ours: keeps the scale of INPUT.MIN_SIZE_TEST), or "pixels"
    # (ours: RANGE is the side itself, as for INPUT.TEST_SCALE). Zeros fill what lies outside.
    crop.RELATIVE_TO = "longer"
    crop.RANGE = [0.6, 1.4]
    # Most object sizes (median over the image's objects of the root of width x height) that the reference side may
    # have, 0 = no bound. Ours: in a large image of small objects, these keep a size that can be learned.
    crop.MAX_OBJECTS_PER_SIDE = 0.0
    crop.OUTPUT_SIZE = 512
    # INPUT.RANDOM_FLIP is Detectron2's (horizontal or vertical, one of the two). These come in addition; all three
    # together give every rotation by a right angle.
    cfg.INPUT.VERTICAL_FLIP = False
    cfg.INPUT.TRANSPOSE = False
    # Strengths of random changes of training images, 0 = off (the paper has none): gamma exp(+-GAMMA), factors
    # 1 +- BRIGHTNESS, CONTRAST and SATURATION, colors turned by up to HUE degrees (both keep gray images gray),
    # blur up to BLUR pixels, noise up to NOISE gray values (standard deviations).
    light = cfg.INPUT.PHOTOMETRIC = CN()
    light.GAMMA = 0.0
    light.BRIGHTNESS = 0.0
    light.CONTRAST = 0.0
    light.SATURATION = 0.0
    light.HUE = 0.0
    light.BLUR = 0.0
    light.NOISE = 0.0
    # Chance that half of the objects of another training image are pasted over this one. Ours, for small datasets;
    # 44.9 AP in place of 43.2 on five leaf images, two draws (docs/few-images.md).
    cfg.INPUT.COPY_PASTE_PROB = 0.0
    # The heatmap's loss takes nothing in COCO crowd regions for background. Ours: objects there have no masks, and the
    # head would learn not to find them. False = crowds are dropped, as Detectron2 does.
    cfg.INPUT.IGNORE_CROWD_IN_TRAINING = True
    # How images of more than 8 bits become 8 bits, "percentile:LOW,HIGH" or "range:LOW,HIGH" (data/intensity.py), in
    # training and testing alike. Empty = such images are refused.
    cfg.INPUT.INTENSITY = ""
    # Height and width that test images are resized to, whatever their aspect (released: 512, 512). Empty = keep the
    # aspect, by INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST.
    cfg.INPUT.TEST_SIZE = []
    # Pixels in the network per pixel of a test image, in place of any size. Ours: for images of one magnification and
    # of any size. 0 = off.
    cfg.INPUT.TEST_SCALE = 0.0
    # Pixels in the network per pixel of a test image at least, where MIN_SIZE_TEST and MAX_SIZE_TEST would give less, 0
    # = off. Ours: objects of large images keep their size, as SQUARE_CROP.MAX_OBJECTS_PER_SIDE does it in training.
    cfg.INPUT.MIN_SCALE_TEST = 0.0
    # Keep decoded training images and annotations in memory up to this many MiB per loader process. Ours: a small
    # dataset is decoded once instead of every epoch. 0 = off.
    cfg.INPUT.CACHE_MEGABYTES = 0


def _add_solver(cfg: CN) -> None:
    # "SGD", "Adam" or "AdamW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    cfg.SOLVER.ADAM_BETAS = [0.9, 0.999]
    # End by wall-clock after this many minutes of training steps (evaluation and checkpoints not counted); 0 = off.
    # The learning rate then follows the elapsed fraction, and MAX_ITER stays as an upper bound.
    cfg.SOLVER.MAX_MINUTES = 0.0
    # From this fraction of the training on, BatchNorm uses population statistics, measured on TEST.PRECISE_BN.NUM_ITER
    # batches, as it does at test time; 1 = never; 0 = from the beginning on, by the statistics of MODEL.WEIGHTS. Ours:
    # with small batches the two differ (engine/batch_norm.py).
    cfg.SOLVER.FREEZE_BN_AT = 1.0
    # "float16" (CUDA only) or "bfloat16", used when SOLVER.AMP.ENABLED.
    cfg.SOLVER.AMP.PRECISION = "float16"


def _add_test(cfg: CN) -> None:
    # Evaluators by name: "coco" and "voc2010" (III-B); on label maps "matching", "boundary", "leaf", "ctc" and
    # "fragments"; "released", the released program's way to read the paper's own numbers (evaluation/released.py).
    cfg.TEST.EVALUATORS = ["coco", "voc2010"]
    # Library that computes COCO AP: "faster_coco_eval", or "pycocotools", the reference, which takes minutes for images
    # with hundreds of objects. The numbers are the same.
    cfg.TEST.COCO_EVAL = "faster_coco_eval"
    # Orientations of an image (flips and right-angle turns: 1, 2, 4 or 8) whose predictions are averaged. Ours: 8 take
    # 8 times as long, and bring the model `nuclei` from 64.4 to 64.9 segm AP on dsb2018_val.
    cfg.TEST.ORIENTATIONS = 1
    # Instances from this score on share the pixels of a label map, best score first (released: 0.3).
    cfg.TEST.LABEL_MAP_SCORE_THRESH = 0.3
    # Pixels of the original image within which outlines agree, for "boundary". Ours: nuclei are some 20 pixels wide.
    cfg.TEST.BOUNDARY_DISTANCE = 2
    # Metric whose best value over the evaluations is kept as model_best.pth.
    cfg.TEST.BEST_METRIC = "segm/AP"
