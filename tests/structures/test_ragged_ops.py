import pytest
import torch
import torch.nn.functional as F

from objguided_d2.structures.ragged_ops import (
    gather_rows,
    pointwise_conv,
    scatter_with_atomics,
    segment_mean,
    segment_norm_relu,
    segment_sum,
    sums_in_parts,
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


def test_gather_rows_is_an_index_with_its_gradient(device):
    source = double(8, 3).to(device).requires_grad_()
    index = torch.tensor([6, 0, 3, 2], device=device)
    torch.testing.assert_close(gather_rows(source, index), source[index])
    assert torch.autograd.gradcheck(lambda s: gather_rows(s, index), source)


@pytest.mark.parametrize("num_pixels", [0, 5])
def test_pointwise_conv_is_a_matrix_product(num_pixels, device):
    values, weight, bias = (v.to(device).requires_grad_() for v in (double(num_pixels, 3), double(4, 3), double(4)))
    torch.testing.assert_close(pointwise_conv(values, weight, bias), F.linear(values, weight, bias))
    assert torch.autograd.gradcheck(pointwise_conv, (values, weight, bias))


def test_segment_sum_and_mean_handle_empty_runs(device):
    values = double(9, 2).to(device).requires_grad_()
    expected = torch.stack([part.sum(0) for part in values.split(LENGTHS.tolist())])
    starts, segment = STARTS.to(device), SEGMENT.to(device)
    torch.testing.assert_close(segment_sum(values, starts, segment), expected)
    mean = segment_mean(values, starts, segment)
    torch.testing.assert_close(mean, expected / LENGTHS.clamp(min=1)[:, None].to(device))
    assert mean[1].tolist() == [0, 0]
    assert torch.autograd.gradcheck(lambda v: segment_mean(v, starts, segment), values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_scatter_with_atomics_is_the_transpose_of_weighted_gather(dtype, device):
    source = double(7, 3).to(device).requires_grad_()
    index = torch.randint(0, 7, (11, 4), generator=torch.Generator().manual_seed(0)).to(device)
    weight, grad = double(11, 4).to(device), double(11, 3).to(device, dtype)
    weight[::2, 1:] = 0
    weighted_gather(source, index, weight).backward(grad.double())
    result = scatter_with_atomics(grad, index, weight.to(dtype), 7)
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), source.grad, rtol=0.02, atol=0.05 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("lengths", [[0, 100, 0, 31, 32, 33, 0], [], [0, 0], [64, 64], [1] * 70])
def test_sums_in_parts_are_sums(lengths, device):
    values = double(20, 3).to(device)
    rows = torch.randint(0, 20, (sum(lengths),), generator=torch.Generator().manual_seed(1)).to(device)
    expected = torch.stack([part.sum(0) for part in values[rows].split(lengths)]) if lengths else values[:0]
    starts = torch.tensor([0, *lengths], device=device).cumsum(0)
    torch.testing.assert_close(sums_in_parts(values, rows, starts), expected)


# The rows of the runs above in another order, with two rows of no run between them.
CELL = torch.tensor([4, 0, 9, 7, 1, 2, 3, 5, 10])
ROW_SEGMENT = torch.full((11,), 4)
ROW_SEGMENT[CELL] = SEGMENT


def norm_relu(values, weight=None, bias=None, eps=1e-5):
    where = (part.to(values.device) for part in (CELL, STARTS, ROW_SEGMENT))
    return segment_norm_relu(values, *where, weight, bias, eps)


@pytest.mark.parametrize("affine", [False, True])
def test_segment_norm_relu_equals_torch_for_every_run(affine, device):
    values = double(11, 2).to(device).requires_grad_()
    weight, bias = (double(2).to(device).requires_grad_(), (double(2).to(device) + 1).requires_grad_())
    affine_values = (weight, bias) if affine else (None, None)
    result = norm_relu(values, *affine_values)
    runs = CELL.split(LENGTHS.tolist())
    for run in runs:
        # torch refuses an instance norm of one value, which is zero plus the bias.
        if len(run) > 1:
            expected = F.instance_norm(values[run].t()[None], weight=affine_values[0], bias=affine_values[1])[0].t()
            torch.testing.assert_close(result[run], F.relu(expected))
    torch.testing.assert_close(result[runs[2]], F.relu(bias[None] if affine else torch.zeros_like(result[runs[2]])))

    def of_runs(v, *affine_values):
        return norm_relu(v, *affine_values)[CELL.to(v.device)]

    assert torch.autograd.gradcheck(of_runs, (values, weight, bias) if affine else values)


def test_rows_of_no_run_have_no_part_in_norms_or_gradients(device):
    values = double(11, 2).to(device)
    outside = [6, 8]
    changed = values.clone()
    changed[outside] = 1e4
    torch.testing.assert_close(norm_relu(values)[CELL], norm_relu(changed)[CELL])
    changed.requires_grad_()
    norm_relu(changed)[CELL.to(device)].pow(2).sum().backward()
    assert changed.grad[outside].abs().sum() == 0 and changed.grad.abs().sum() > 0


def test_norm_of_a_constant_far_from_zero_is_zero(device):
    assert norm_relu(torch.full((11, 1), 1000.3, device=device)).abs().max() < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_dtype_and_comes_near_full(dtype, device):
    values = double(11, 2).to(device, dtype).requires_grad_()
    index, weight = torch.tensor([[0, 8], [4, 4]], device=device), torch.tensor([[0.5, 0.5], [1, 0]], device=device)
    out, norm = weighted_gather(values, index, weight), norm_relu(values)
    assert out.dtype == dtype and norm.dtype == dtype
    torch.testing.assert_close(norm.double(), norm_relu(values.detach().double()), atol=0.02, rtol=0.02)
    (out.sum() + norm.sum()).backward()
    assert values.grad.dtype == dtype and values.grad.isfinite().all()
