"""Parameter names of the authors' released program, turned into ours."""

import re

from torch import Tensor

# Released prefix -> ours. Numbers of stages differ by one: torchvision's layer1 is Detectron2's res2, and the program's
# dec_c4 gives the map that the paper calls c5.
PREFIXES = [
    (r"base_network\.conv1\.", "backbone.bottom_up.stem.conv1."),
    (r"base_network\.bn1\.", "backbone.bottom_up.stem.conv1.norm."),
    (r"base_network\.layer(\d)\.(\d+)\.", lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.{m[2]}."),
    (r"dec_c(\d)\.", lambda m: f"backbone.decoder.c{int(m[1]) + 1}."),
    (r"c0_conv\.0\.", "backbone.c1.0."),
    (r"c0_conv\.2\.", "backbone.c1.1."),
    (r"hm\.", "proposal_generator.head.heatmap."),
    (r"wh\.", "proposal_generator.head.wh."),
    (r"reg\.", "proposal_generator.head.offset."),
    (r"seg_combine\.(\d)\.", r"roi_heads.mask_head.ladder.\1."),
    (r"seg_head\.0\.", "roi_heads.mask_head.seg_head.conv."),
    (r"seg_head\.2\.", "roi_heads.mask_head.seg_head.predictor."),
    (r"point_head0\.0\.", "roi_heads.mask_head.refinement.fine."),
    (r"point_head1\.0\.", "roi_heads.mask_head.refinement.fine_and_coarse."),
]

# What follows a prefix: layers of residual blocks, of Module B and of Module S.
LAYERS = [
    (r"^bn(\d)\.", r"conv\1.norm."),
    (r"^downsample\.0\.", "shortcut."),
    (r"^downsample\.1\.", "shortcut.norm."),
    (r"^up\.0\.", "up."),
    (r"^up\.1\.", "up.norm."),
    (r"^cat_conv\.0\.", "merge."),
    (r"^cat_conv\.1\.", "merge.norm."),
]


def convert_released_state_dict(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The released program's ``state_dict`` under our names.

    Args:
        state_dict: its names, with or without ``module.`` in front; ``base_network.fc`` is dropped.

    Returns:
        Our names; the Conv1d weights (1, C, 1) of RefineHead as linear weights (1, C).

    Raises:
        ValueError: a name that the released program does not have.
    """
    converted = {}
    for released_name, value in state_dict.items():
        name = released_name.removeprefix("module.")
        if not name.startswith("base_network.fc."):
            is_conv1d = name.startswith("point_head") and value.dim() == 3
            converted[_rename(name)] = value.squeeze(-1) if is_conv1d else value
    return converted


def _rename(name: str) -> str:
    for pattern, prefix in PREFIXES:
        match = re.match(pattern, name)
        if match:
            rest = name[match.end() :]
            for layer_pattern, layer in LAYERS:
                rest = re.sub(layer_pattern, layer, rest)
            return (prefix(match) if callable(prefix) else match.expand(prefix)) + rest
    raise ValueError(f"{name!r} is not a parameter of the released program; is this its checkpoint?")
