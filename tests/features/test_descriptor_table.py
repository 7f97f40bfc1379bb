"""Sparse rows: stored, taken out in batches, multiplied without filling in zeros."""

import numpy as np
import pytest
import torch

from raymat.features.descriptor_table import DescriptorBatch, DescriptorTable
from raymat.features.soap import SoapConfig

N_FEATURES = 9
ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-14}
DTYPES = tuple(ROUNDING)


class Nine(SoapConfig):
    """A configuration of nine features."""

    species: tuple[int, ...] = (1, 8)


def random_rows(n_rows: int, seed: int = 0) -> np.ndarray:
    """Dense rows, most of them zeros, rows 1 and the last all zeros."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n_rows, N_FEATURES)) * (rng.random((n_rows, N_FEATURES)) < 0.7)
    dense[[1, -1]] = 0.0
    return dense


def table_of(dense: np.ndarray) -> DescriptorTable:
    rows = [(np.flatnonzero(row).astype(np.int32), row[row != 0.0]) for row in dense]
    return DescriptorTable.from_rows(Nine(), rows)


def batch_of(dense: np.ndarray) -> DescriptorBatch:
    return table_of(dense).batch(np.arange(len(dense)))


def test_a_table_counts_one_place_per_crystal():
    dense = random_rows(6)
    table = table_of(dense)
    assert len(table) == 6
    assert table.n_sites.tolist() == [1] * 6
    assert table.n_features == N_FEATURES
    assert table.nbytes == 12 * np.count_nonzero(dense) + 8 * 7
    assert table.facts()["kind"] == "soap"
    assert table.facts()["n_crystals"] == 6
    n_values = np.count_nonzero(dense)
    expected = f"soap: {n_values} values in 9 features of 6 crystals (2 without any), 0.000"
    assert table.line().startswith(expected)


def test_rows_come_in_the_order_asked_for():
    dense = random_rows(8)
    rows = np.array([5, 1, 5, 0, 7])
    batch = table_of(dense).batch(rows)
    assert batch.n_crystals == 5
    assert np.array_equal(batch.to_dense().numpy(), dense[rows])


def test_rows_are_taken_from_tables_and_batches():
    dense = random_rows(8)
    rows = np.array([5, 1, 5, 0, 7])
    taken = table_of(dense).take(rows)
    expected = table_of(dense[rows])
    for name, dtype in DescriptorTable.dtypes.items():
        assert np.array_equal(getattr(taken, name), getattr(expected, name))
        assert getattr(taken, name).dtype.str == dtype
    assert taken.config == expected.config
    found = batch_of(dense).take(rows)
    assert np.array_equal(found.to_dense().numpy(), dense[rows])
    assert found.n_features == N_FEATURES
    assert len(table_of(dense).take(rows[:0])) == batch_of(dense).take(rows[:0]).n_crystals == 0


def test_parts_join():
    dense = random_rows(8)
    parts = [table_of(dense[rows]) for rows in (slice(0, 3), slice(3, 3), slice(3, 8))]
    joined = DescriptorTable.from_parts(Nine(), parts)
    assert np.array_equal(joined.batch(np.arange(8)).to_dense().numpy(), dense)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_columns", [1, 5])
def test_matmul_is_the_dense_product(dtype, n_columns):
    dense = random_rows(7)
    weight = torch.randn(N_FEATURES, n_columns, dtype=dtype, requires_grad=True)
    product = batch_of(dense).matmul(weight)
    assert product.dtype == dtype
    expected = torch.from_numpy(dense).to(dtype) @ weight
    torch.testing.assert_close(product, expected, rtol=0, atol=10 * ROUNDING[dtype])
    assert (product[[1, -1]] == 0).all()

    upstream = torch.randn(7, n_columns, dtype=dtype)
    (found,) = torch.autograd.grad(product, weight, upstream)
    expected = torch.from_numpy(dense).to(dtype).T @ upstream
    torch.testing.assert_close(found, expected, rtol=0, atol=10 * ROUNDING[dtype])


def test_matmul_takes_the_transposed_weight_of_a_linear_layer():
    dense = random_rows(7)
    layer = torch.nn.Linear(N_FEATURES, 4, bias=False, dtype=torch.float64)
    product = batch_of(dense).matmul(layer.weight.T)
    torch.testing.assert_close(product, layer(torch.from_numpy(dense)))
    product.square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("n_rows", [0, 3])
def test_a_batch_without_values(n_rows):
    batch = table_of(np.zeros((3, N_FEATURES))).batch(np.arange(n_rows))
    weight = torch.randn(N_FEATURES, 4, requires_grad=True)
    product = batch.matmul(weight)
    assert product.shape == (n_rows, 4)
    assert (product == 0).all()
    product.sum().backward()
    assert (weight.grad == 0).all()
    assert batch.to_dense().shape == (n_rows, N_FEATURES)
    assert batch.squared_norms().tolist() == [0.0] * n_rows


def test_squared_norms():
    dense = random_rows(7)
    expected = torch.from_numpy((dense**2).sum(axis=1))
    torch.testing.assert_close(batch_of(dense).squared_norms(), expected)


def test_moving_keeps_everything():
    batch = batch_of(random_rows(4))
    moved = batch.to(torch.device("meta"))
    assert {t.device.type for t in (moved.columns, moved.values, moved.offsets)} == {"meta"}
    assert (moved.n_crystals, moved.n_features) == (4, N_FEATURES)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul_on_a_gpu(dtype):
    dense = random_rows(50)
    weight = torch.randn(N_FEATURES, 5, dtype=dtype)
    on_gpu = weight.cuda().requires_grad_()
    product = batch_of(dense).to(torch.device("cuda")).matmul(on_gpu)
    expected = torch.from_numpy(dense).to(dtype) @ weight
    torch.testing.assert_close(product.cpu(), expected, rtol=0, atol=10 * ROUNDING[dtype])
    product.sum().backward()
    expected = torch.from_numpy(dense).to(dtype).sum(dim=0)[:, None].expand(-1, 5)
    torch.testing.assert_close(on_gpu.grad.cpu(), expected, rtol=0, atol=50 * ROUNDING[dtype])
