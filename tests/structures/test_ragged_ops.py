import pytest
import torch
import torch.nn.functional as F

from objguided_d2.structures.ragged_ops import (
    gather_rows,
    scatter_rows,
    segment_instance_norm,
    segment_mean,
    segment_sum,
    weighted_gather,
)

LENGTHS = torch.tensor([3, 0, 1, 5])
STARTS = torch.tensor([0, 3, 3, 4, 9])
SEGMENT = torch.arange(4).repeat_interleave(LENGTHS)


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_weighted_gather_is_a_weighted_sum_of_rows_with_its_gradient(device):
    source = double(7, 3).to(device).requires_grad_()
    index = torch.randint(0, 7, (11, 4), generator=torch.Generator().manual_seed(0)).to(device)
    weight = double(11, 4).to(device)
    torch.testing.assert_close(weighted_gather(source, index, weight), (source[index] * weight[..., None]).sum(1))
    assert torch.autograd.gradcheck(lambda s: weighted_gather(s, index, weight), source)


def test_weighted_gather_leaves_unread_rows_without_gradient(device):
    source = double(5, 2).to(device).requires_grad_()
    index = torch.tensor([[1, 3]], device=device)
    weighted_gather(source, index, double(1, 2).to(device)).sum().backward()
    assert (source.grad.abs().sum(1) > 0).tolist() == [False, True, False, True, False]


def test_gather_and_scatter_rows_are_transposes(device):
    values = double(4, 3).to(device).requires_grad_()
    index = torch.tensor([6, 0, 3, 2], device=device)
    plane = scatter_rows(values, index, 8)
    assert plane.shape == (8, 3) and plane[[1, 4, 5, 7]].abs().sum() == 0
    torch.testing.assert_close(gather_rows(plane, index), values)
    assert torch.autograd.gradcheck(lambda v: scatter_rows(v, index, 8), values)
    assert torch.autograd.gradcheck(lambda p: gather_rows(p, index), plane.detach().requires_grad_())


def test_segment_sum_and_mean_handle_empty_runs(device):
    values = double(9, 2).to(device).requires_grad_()
    expected = torch.stack([part.sum(0) for part in values.split(LENGTHS.tolist())])
    starts, segment = STARTS.to(device), SEGMENT.to(device)
    torch.testing.assert_close(segment_sum(values, starts, segment), expected)
    mean = segment_mean(values, starts, segment)
    torch.testing.assert_close(mean, expected / LENGTHS.clamp(min=1)[:, None].to(device))
    assert mean[1].tolist() == [0, 0]
    assert torch.autograd.gradcheck(lambda v: segment_mean(v, starts, segment), values)


@pytest.mark.parametrize("affine", [False, True])
def test_segment_instance_norm_equals_torch_for_every_run(affine, device):
    values = double(9, 2).to(device).requires_grad_()
    weight, bias = (double(2).to(device), double(2).to(device) + 1) if affine else (None, None)
    starts, segment = STARTS.to(device), SEGMENT.to(device)

    def norm(v):
        return segment_instance_norm(v, starts, segment, weight, bias, 1e-5)

    # torch refuses an instance norm of one value, which is zero plus the bias.
    long_runs = [part for part in values.split(LENGTHS.tolist()) if len(part) > 1]
    expected = [F.instance_norm(part.t()[None], weight=weight, bias=bias)[0].t() for part in long_runs]
    result = norm(values)
    torch.testing.assert_close(result[[0, 1, 2, 4, 5, 6, 7, 8]], torch.cat(expected))
    torch.testing.assert_close(result[3], torch.zeros_like(result[3]) if bias is None else bias)
    assert torch.autograd.gradcheck(norm, values)


def test_instance_norm_of_a_constant_far_from_zero_is_zero(device):
    values = torch.full((9, 1), 1000.3, device=device)
    assert segment_instance_norm(values, STARTS.to(device), SEGMENT.to(device), None, None, 1e-5).abs().max() < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_values_keep_their_dtype(dtype, device):
    values = double(9, 2).to(device, dtype).requires_grad_()
    index, weight = torch.tensor([[0, 8], [4, 4]], device=device), torch.tensor([[0.5, 0.5], [1, 0]], device=device)
    out = weighted_gather(values, index, weight)
    norm = segment_instance_norm(values, STARTS.to(device), SEGMENT.to(device), None, None, 1e-5)
    assert out.dtype == dtype and norm.dtype == dtype
    (out.sum() + norm.sum()).backward()
    assert values.grad.dtype == dtype and values.grad.isfinite().all()
