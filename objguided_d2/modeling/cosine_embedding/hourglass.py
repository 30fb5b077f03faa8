"""The two hourglasses: each goes down to coarse maps and up to the input's resolution again."""

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from torch import Tensor, nn

from ..backbone import ModuleB


class BackboneTop(nn.Module):
    """Makes the backbone an hourglass: its decoder ends at stride 4, and this goes on to stride 1.

    Args:
        shapes: of the backbone's maps c1, c2 and c3.
        channels: of the map at stride 1.
        norm: any name of ``detectron2.layers.get_norm``.
    """

    def __init__(self, shapes: dict[str, ShapeSpec], channels: int, norm: str):
        super().__init__()
        self.to_c2 = ModuleB(shapes["c3"].channels, shapes["c2"].channels, channels, norm)
        self.to_c1 = ModuleB(channels, shapes["c1"].channels, channels, norm)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """-> (N, channels, H, W)."""
        return self.to_c1(self.to_c2(features["c3"], features["c2"]), features["c1"])


class Hourglass(nn.Module):
    """A 3x3 convolution per stride on the way down and one on the way up, all of the same width (Payer et al.).

    Down is average pooling; up is bilinear, and the map of the same stride is added.

    Args:
        in_channels: of the input.
        channels: of all else.
        num_levels: strides 1, 2, 4, ...; the input's sides must be multiples of the last.
        norm: any name of ``detectron2.layers.get_norm``.
    """

    def __init__(self, in_channels: int, channels: int, num_levels: int, norm: str):
        super().__init__()
        self.down = nn.ModuleList(
            _conv(channels if level else in_channels, channels, norm) for level in range(num_levels)
        )
        self.up = nn.ModuleList(_conv(channels, channels, norm) for _ in range(num_levels - 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C, H, W)."""
        maps = []
        for level, conv in enumerate(self.down):
            x = conv(F.avg_pool2d(x, 2) if level else x)
            maps.append(x)
        x = maps.pop()
        for conv in self.up:
            skip = maps.pop()
            x = conv(skip + F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False))
        return x


class StackedHourglass(nn.Module):
    """Unit embeddings of every pixel, from the first hourglass and from the second, which starts from the first's.

    Args:
        first: from the backbone's maps to a map (N, C, H, W).
        second: from C + ``embedding_channels`` channels to a map (N, C, H, W).
        channels: C.
        embedding_channels: of an embedding.
    """

    def __init__(self, first: nn.Module, second: nn.Module, channels: int, embedding_channels: int):
        super().__init__()
        self.first, self.second = first, second
        self.embed_first = Conv2d(channels, embedding_channels, 1)
        self.embed_second = Conv2d(channels, embedding_channels, 1)
        for conv in (self.embed_first, self.embed_second):
            weight_init.c2_msra_fill(conv)

    def forward(self, features: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """-> both embeddings, (N, E, H, W) float32 of length 1 in E, and the map that the last was made from."""
        x = self.first(features)
        first = _unit(self.embed_first(x))
        x = self.second(torch.cat([x, first.to(x.dtype)], 1))
        return [first, _unit(self.embed_second(x))], x


def _unit(embeddings: Tensor) -> Tensor:
    return F.normalize(embeddings.float(), dim=1)


def _conv(in_channels: int, out_channels: int, norm: str) -> Conv2d:
    conv = Conv2d(in_channels, out_channels, 3, padding=1, norm=get_norm(norm, out_channels), activation=F.relu)
    weight_init.c2_msra_fill(conv)
    return conv
