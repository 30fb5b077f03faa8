"""Parameter names of the authors' released program, turned into ours."""

import re

from torch import Tensor

# Pattern of a released name -> our name. The first match wins.
RENAMES = [
    (r"base_network\.conv1\.(.*)", r"backbone.bottom_up.stem.conv1.\1"),
    (r"base_network\.bn1\.(.*)", r"backbone.bottom_up.stem.conv1.norm.\1"),
    (r"base_network\.layer(\d)\.(\d+)\.conv(\d)\.(.*)", lambda m: f"backbone.bottom_up.res{_stage(m)}.{m[2]}.conv{m[3]}.{m[4]}"),
    (r"base_network\.layer(\d)\.(\d+)\.bn(\d)\.(.*)", lambda m: f"backbone.bottom_up.res{_stage(m)}.{m[2]}.conv{m[3]}.norm.{m[4]}"),
    (r"base_network\.layer(\d)\.(\d+)\.downsample\.0\.(.*)", lambda m: f"backbone.bottom_up.res{_stage(m)}.{m[2]}.shortcut.{m[3]}"),
    (r"base_network\.layer(\d)\.(\d+)\.downsample\.1\.(.*)", lambda m: f"backbone.bottom_up.res{_stage(m)}.{m[2]}.shortcut.norm.{m[3]}"),
    (r"dec_c(\d)\.up\.0\.(.*)", lambda m: f"backbone.decoder.c{int(m[1]) + 1}.up.{m[2]}"),
    (r"dec_c(\d)\.up\.1\.(.*)", lambda m: f"backbone.decoder.c{int(m[1]) + 1}.up.norm.{m[2]}"),
    (r"dec_c(\d)\.cat_conv\.0\.(.*)", lambda m: f"backbone.decoder.c{int(m[1]) + 1}.merge.{m[2]}"),
    (r"dec_c(\d)\.cat_conv\.1\.(.*)", lambda m: f"backbone.decoder.c{int(m[1]) + 1}.merge.norm.{m[2]}"),
    (r"c0_conv\.0\.(.*)", r"backbone.c1.0.\1"),
    (r"c0_conv\.2\.(.*)", r"backbone.c1.1.\1"),
    (r"hm\.(.*)", r"proposal_generator.head.heatmap.\1"),
    (r"wh\.(.*)", r"proposal_generator.head.wh.\1"),
    (r"reg\.(.*)", r"proposal_generator.head.offset.\1"),
    (r"seg_combine\.(\d)\.up\.0\.(.*)", r"roi_heads.mask_head.ladder.\1.up.\2"),
    (r"seg_combine\.(\d)\.cat_conv\.0\.(.*)", r"roi_heads.mask_head.ladder.\1.merge.\2"),
    (r"seg_head\.0\.(.*)", r"roi_heads.mask_head.seg_head.conv.\1"),
    (r"seg_head\.2\.(.*)", r"roi_heads.mask_head.seg_head.predictor.\1"),
    (r"point_head0\.0\.(.*)", r"roi_heads.mask_head.refinement.fine.\1"),
    (r"point_head1\.0\.(.*)", r"roi_heads.mask_head.refinement.fine_and_coarse.\1"),
]


def _stage(match: re.Match) -> int:
    """torchvision's layer1 is Detectron2's res2."""
    return int(match[1]) + 1


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
        if name.startswith("base_network.fc."):
            continue
        for pattern, replacement in RENAMES:
            match = re.fullmatch(pattern, name)
            if match:
                ours = replacement(match) if callable(replacement) else match.expand(replacement)
                break
        else:
            raise ValueError(f"{released_name!r} is not a parameter of the released program; is this its checkpoint?")
        converted[ours] = value.squeeze(-1) if name.startswith("point_head") and value.dim() == 3 else value
    return converted
