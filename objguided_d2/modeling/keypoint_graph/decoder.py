"""From the encoder's maps to the maps of keypoints and offsets at strides 1, 2, 4 and 8.

See the package for the glossary.
"""

from typing import NamedTuple

from torch import Tensor, nn

from ..backbone import ModuleB
from ..center_head import conv_branch, float32_branch, prior_logit
from .keypoints import KINDS, OTHERS

# A disc is a small part of an image: as for the center heatmap, the first losses are not those of the background.
KEYPOINT_PRIOR = 0.1


class KeypointMaps(NamedTuple):
    """What the heads say of one scale, float32 or wider.

    Attributes:
        keypoint: (N, K, 5, H, W) logits of being in a disc of that class and kind.
        short: (N, 5, 2, H, W) vector from each cell to the keypoint of that kind, in cells, x first.
        mid: (N, 5, 4, 2, H, W) from a cell in a disc of the first kind to the object's keypoints of ``OTHERS``.
    """

    keypoint: Tensor
    short: Tensor
    mid: Tensor


class KeypointDecoder(nn.Module):
    """Module B's layers without norms, up to stride 1.

    Args:
        in_channels: of the encoder's maps, finest first.
        channels: of the decoder's maps, deepest first, one less; 0 takes those of the map that is merged in.
    """

    def __init__(self, in_channels: list[int], channels: list[int]):
        super().__init__()
        if len(channels) != len(in_channels) - 1 or min(channels) < 0:
            raise ValueError(
                f"MODEL.KEYPOINT_GRAPH.DECODER_CHANNELS takes {len(in_channels) - 1} values >= 0, one for each of "
                f"IN_FEATURES but the deepest, not {list(channels)}"
            )
        *skip_channels, low_channels = in_channels
        # Finest first.
        self.channels = [own or skip for own, skip in zip(reversed(channels), skip_channels)]
        self.merges = nn.ModuleList(
            ModuleB(low, skip, out, norm="")
            for low, skip, out in zip([*self.channels[1:], low_channels], skip_channels, self.channels)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps (N, C, H, W), finest first -> the decoder's, one less."""
        *skips, low = features
        maps = []
        for merge, skip in zip(reversed(self.merges), reversed(skips)):
            low = merge(low, skip)
            maps.insert(0, low)
        return maps


class KeypointHeads(nn.Module):
    """The three heads on one of the decoder's maps, each conv - ReLU - conv as wide as the map (released).

    Args:
        channels: of the map.
        num_classes: K.
        kernel: odd size of both convolutions.
        radius: r. Offsets are predicted in units of it, as their losses measure them.
    """

    def __init__(self, channels: int, num_classes: int, kernel: int, radius: float):
        super().__init__()
        self.num_classes, self.radius = num_classes, radius
        self.keypoint, self.short, self.mid = (
            conv_branch(channels, channels, out, kernel, kernel)
            for out in (num_classes * len(KINDS), 2 * len(KINDS), 2 * sum(map(len, OTHERS)))
        )
        nn.init.constant_(self.keypoint[-1].bias, prior_logit(KEYPOINT_PRIOR))

    def forward(self, feature: Tensor) -> KeypointMaps:
        """(N, C, H, W) -> the maps of this scale."""
        # In half precision neighbors get the same logit, and an offset of 100 cells is whole cells.
        keypoint, short, mid = (float32_branch(head, feature) for head in (self.keypoint, self.short, self.mid))
        return KeypointMaps(
            keypoint.unflatten(1, (self.num_classes, len(KINDS))),
            short.unflatten(1, (len(KINDS), 2)) * self.radius,
            mid.unflatten(1, (len(KINDS), len(OTHERS[0]), 2)) * self.radius,
        )
