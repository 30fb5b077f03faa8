import pytest
import torch

from objguided_d2.modeling.center_head import CenterHead


@pytest.mark.parametrize("wh_kernel", [1, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 6, 400])
def test_values_at_cells_equal_those_of_dense_maps(wh_kernel, count, device):
    """Borders, corners and repeats included; 400 cells take the dense way, which must not differ either."""
    torch.manual_seed(0)
    head = CenterHead(in_channels=5, num_classes=2, conv_dim=6, wh_kernel=wh_kernel, heatmap_prior=0.1).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    head = head.to(device)
    feature = torch.randn(2, 5, 11, 17, dtype=torch.float64, device=device, requires_grad=True)
    cell = torch.tensor([0, 16, 11 * 17 - 1, 11 * 17, 200, 200], device=device).repeat(70)[:count]
    wh, offset = head.wh_and_offset(feature, cell)
    dense = [branch(feature).permute(0, 2, 3, 1).reshape(-1, 2)[cell] for branch in (head.wh, head.offset)]
    torch.testing.assert_close(wh, dense[0])
    torch.testing.assert_close(offset, dense[1])

    (sparse_grad,) = torch.autograd.grad((wh.square().sum() + offset.square().sum()), feature)
    (dense_grad,) = torch.autograd.grad(sum(d.square().sum() for d in dense), feature)
    torch.testing.assert_close(sparse_grad, dense_grad)


def test_the_heatmap_starts_at_its_prior():
    head = CenterHead(in_channels=4, num_classes=3, conv_dim=8, wh_kernel=3, heatmap_prior=0.1)
    heatmap = head(torch.randn(1, 4, 6, 7)).sigmoid()
    assert heatmap.shape == (1, 3, 6, 7) and (heatmap - 0.1).abs().max() < 0.01
