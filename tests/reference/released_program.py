"""The released program's network under its own parameter names (method sections 1-3), put together plainly."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet50


class Combine(nn.Module):
    """Module B (BatchNorm) or Module S (InstanceNorm without parameters)."""

    def __init__(self, low: int, skip: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Conv2d(low, skip, 3, padding=1), norm(skip), nn.ReLU())
        self.cat_conv = nn.Sequential(nn.Conv2d(2 * skip, skip, 1), norm(skip), nn.ReLU())

    def forward(self, low: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        low = self.up(F.interpolate(low, size=skip.shape[2:], mode="bilinear", align_corners=False))
        return self.cat_conv(torch.cat([skip, low], 1))


def head(out: int, first: int, last: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(256, 256, first, padding=first // 2), nn.ReLU(), nn.Conv2d(256, out, last, padding=last // 2)
    )


class ReleasedProgram(nn.Module):
    """Paper widths; random weights."""

    def __init__(self, num_classes: int = 1) -> None:
        super().__init__()
        self.base_network = resnet50()
        self.dec_c4 = Combine(2048, 1024, nn.BatchNorm2d)
        self.dec_c3 = Combine(1024, 512, nn.BatchNorm2d)
        self.dec_c2 = Combine(512, 256, nn.BatchNorm2d)
        self.c0_conv = nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()
        )
        self.hm, self.wh, self.reg = head(num_classes, 3, 1), head(2, 7, 7), head(2, 3, 1)
        widths = [64, 64, 256, 512, 1024]
        self.seg_combine = nn.ModuleList(
            Combine(low, skip, nn.InstanceNorm2d) for skip, low in zip(widths[:-1], widths[1:])
        )
        self.seg_head = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 1, 3, padding=1))
        self.point_head0 = nn.Sequential(nn.Conv1d(64, 1, 1))
        self.point_head1 = nn.Sequential(nn.Conv1d(128, 1, 1))

    def maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """c1 .. c5 of a normalized (N, 3, H, W)."""
        net = self.base_network
        c2 = net.relu(net.bn1(net.conv1(image)))
        res2 = net.layer1(net.maxpool(c2))
        res3 = net.layer2(res2)
        res4 = net.layer3(res3)
        c5 = self.dec_c4(net.layer4(res4), res4)
        c4 = self.dec_c3(c5, res3)
        return [self.c0_conv(image), c2, self.dec_c2(c4, res2), c4, c5]
