"""Hebbian learning equals the formula on dense matrices; thresholds find their target."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.v1 import (
    HomeostaticThreshold,
    LocalConnection,
    hebbian_together_,
    normalize_together_,
)
from calcarine.v1._local_compiler import library


@pytest.fixture(params=["compiled", "torch"])
def path(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr("calcarine.v1._local_kernels.library", lambda: None)
        monkeypatch.setattr("calcarine.v1._local_kernels._BLOCK", 300)  # several blocks
    elif library() is None:
        pytest.skip("no C++ compiler")
    return request.param


def formula(weights, pre, post, rates):
    """Return dense weights after one step, normalised per unit over all of them."""
    grown = [
        (w + rate * post.flatten(1).T @ x.flatten(1)) * (w != 0)
        for w, x, rate in zip(weights, pre, rates, strict=True)
    ]
    total = sum(w.sum(dim=1, keepdim=True) for w in grown)
    return [w / total for w in grown]


def activity(shape, seed, dtype):
    """Return activity of which about half is silent."""
    generator = torch.Generator().manual_seed(seed)
    return (
        (torch.rand(1, *shape, generator=generator, dtype=torch.float64) - 0.5)
        .clamp(min=0)
        .to(dtype)
    )


@pytest.mark.parametrize(
    ("source", "target"), [((9, 9), (9, 9)), ((8, 13), (15, 6)), ((20, 7), (5, 11))]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_fifty_steps_equal_the_formula(path, source, target, dtype, tolerance):
    connection = LocalConnection(source, target, 2.7, 2.0).to(dtype).normalize_()
    start = dense = connection.dense().double()
    for step in range(50):
        pre, post = activity(source, 2 * step, dtype), activity(target, 2 * step + 1, dtype)
        connection.hebbian_(pre, post, 0.05)
        (dense,) = formula([dense], [pre.double()], post.double(), [0.05])
    found = connection.dense()
    assert (found - start).abs().max() > 0.01
    torch.testing.assert_close(found.double(), dense, rtol=0, atol=tolerance)
    x = activity(source, 1000, dtype)
    expected = x.double().flatten(1) @ dense.T
    torch.testing.assert_close(connection(x).double().flatten(1), expected, rtol=0, atol=tolerance)


def test_fields_that_learn_together_share_one_sum(path):
    fields = [
        LocalConnection((9, 10), (7, 6), 2.5).double(),
        LocalConnection((14, 11), (7, 6), 3.1, 2.0).double(),
    ]
    normalize_together_(fields)
    sums = torch.stack([each.dense().sum(dim=1) for each in fields])
    torch.testing.assert_close(sums, torch.full_like(sums, 0.5))
    dense = [each.dense() for each in fields]
    for step in range(20):
        pre = [activity(each.source, 3 * step + k, torch.float64) for k, each in enumerate(fields)]
        post = activity((7, 6), 3 * step + 2, torch.float64)
        hebbian_together_(fields, pre, post, [0.3, 0.02])
        dense = formula(dense, pre, post, [0.3, 0.02])
    for each, expected in zip(fields, dense, strict=True):
        torch.testing.assert_close(each.dense(), expected, rtol=0, atol=1e-12)
    shares = fields[0].dense().sum(dim=1)
    torch.testing.assert_close(shares + fields[1].dense().sum(dim=1), torch.ones(42).double())
    # The faster field has taken from the slower one.
    assert shares.min() > 0.5
    assert shares.max() > 0.6


def test_a_batch_adds_its_products_up(path):
    connection = LocalConnection((8, 9), (6, 7), 3.0).double()
    pre, post = (torch.rand(5, *shape, dtype=torch.float64) for shape in ((8, 9), (6, 7)))
    (expected,) = formula([connection.dense()], [pre], post, [0.1])
    connection.hebbian_(pre, post, 0.1)
    torch.testing.assert_close(connection.dense(), expected, rtol=0, atol=1e-13)


def test_silent_units_keep_their_weights_to_the_bit(path):
    connection = LocalConnection((8, 9), (6, 7), 3.0)
    before, post = connection.dense(), torch.zeros(6, 7)
    post[2, 3] = 1.0
    connection.hebbian_(torch.rand(8, 9), post, 0.1)
    changed = (connection.dense() != before).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [2 * 7 + 3]


def test_a_constant_input_draws_all_weight_to_itself(path):
    """Fixed point: w is proportional to pre wherever the unit sees it."""
    connection = LocalConnection((8, 8), (8, 8), 2.0).double()
    pre = torch.zeros(8, 8, dtype=torch.float64)
    pre[3, 4] = 1.0
    for _ in range(400):
        connection.hebbian_(pre, torch.ones_like(pre), 0.1)
    seen = connection.dense()[:, 3 * 8 + 4]
    assert seen[seen > 0].min() > 1 - 1e-9
    assert (seen > 0).sum() == 13


def test_weights_decay_to_nothing_rather_than_to_denormal_numbers(path):
    if path == "torch":
        pytest.skip("torch keeps denormal numbers unless told otherwise")
    connection = LocalConnection((8, 8), (8, 8), 2.0)
    pre = torch.zeros(8, 8)
    pre[3, 4] = 1.0
    for _ in range(40):
        connection.hebbian_(pre, torch.ones(8, 8), 10.0)
    weights = connection.weight[connection.weight != 0]
    assert weights.min() >= torch.finfo(torch.float32).tiny
    assert (connection.weight == 0).any()


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_half_precision_weights_learn_what_they_can_resolve(path, half):
    full, rough = (
        LocalConnection((9, 9), (9, 9), 2.5, profile="gaussian", precision=h)
        for h in ("full", half)
    )
    for step in range(5):
        pre, post = activity((9, 9), step, torch.float32), activity((9, 9), step + 9, torch.float32)
        full.hebbian_(pre, post, 0.5)
        rough.hebbian_(pre, post, 0.5)
    assert rough.weight.dtype == getattr(torch, half)
    resolution = torch.finfo(rough.weight.dtype).eps
    error = (rough.dense().float() - full.dense()).abs().max() / full.dense().max()
    assert 0 < error < 5 * resolution


def test_learning_refuses_what_it_cannot_use():
    a, b = LocalConnection((8, 9), (6, 7), 3.0), LocalConnection((8, 9), (6, 6), 3.0)
    pre, post = torch.rand(2, 8, 9), torch.rand(2, 6, 7)
    for rate in (0, -0.1, math.nan):
        with pytest.raises(InputError, match="learning rate > 0"):
            a.hebbian_(pre, post, rate)
    with pytest.raises(ShapeError, match=r"pre with axes .* 8 x 9"):
        a.hebbian_(post, post, 0.1)
    with pytest.raises(ShapeError, match=r"post with axes .* 6 x 7"):
        a.hebbian_(pre, pre, 0.1)
    with pytest.raises(ShapeError, match="same batch"):
        a.hebbian_(pre, post[:1], 0.1)
    with pytest.raises(InputError, match="onto one sheet"):
        normalize_together_([a, b])
    with pytest.raises(InputError, match="at least one connection"):
        normalize_together_([])
    with pytest.raises(InputError, match="one activity and one rate for each of 2"):
        hebbian_together_([a, a], [pre], post, [0.1])
    relay = LocalConnection((9, 9), (9, 9), 3.0, 1.0, profile="difference", sigma_surround=2.0)
    with pytest.raises(InputError, match="sum to zero"):
        relay.hebbian_(torch.rand(9, 9), torch.rand(9, 9), 0.1)


def test_thresholds_lead_a_unit_to_its_target():
    """max(0, x - theta) with x uniform in 0..1 has mean (1 - theta)^2 / 2: theta is known."""
    generator = torch.Generator().manual_seed(0)
    unit = HomeostaticThreshold((4, 5), target=0.08, rate=0.02, smoothing=0.98).double()
    unit.reset_(generator)
    assert unit.threshold.std() > 0
    thresholds = []
    for step in range(6000):
        x = torch.rand(1, 4, 5, generator=generator, dtype=torch.float64)
        unit.adapt_(unit(x))
        if step >= 3000:
            thresholds.append(unit.threshold.clone())
    found = torch.stack(thresholds).mean(dim=0)
    assert (found - (1 - math.sqrt(2 * 0.08))).abs().max() < 0.02


def test_one_step_of_homeostasis_in_numbers():
    unit = HomeostaticThreshold((1, 2), jitter=0.0).double()
    before = unit.threshold.clone()
    unit.adapt_(torch.tensor([[[1.0, 0.0]]], dtype=torch.float64))
    average = torch.tensor([[0.991 * 0.024 + 0.009, 0.991 * 0.024]], dtype=torch.float64)
    torch.testing.assert_close(unit.average, average, rtol=1e-6, atol=0)
    torch.testing.assert_close(unit.threshold, before + 0.01 * (average - 0.024))
    two = HomeostaticThreshold((1, 2), jitter=0.0).double()
    stimuli = torch.rand(2, 1, 2, dtype=torch.float64)
    one = HomeostaticThreshold((1, 2), jitter=0.0).double()
    two.adapt_(stimuli)
    one.adapt_(stimuli[:1]).adapt_(stimuli[1:])
    assert one.threshold.equal(two.threshold)


def test_thresholds_refuse_numbers_out_of_range():
    with pytest.raises(InputError, match="rate > 0"):
        HomeostaticThreshold((2, 2), rate=0.0)
    with pytest.raises(InputError, match="smoothing < 1"):
        HomeostaticThreshold((2, 2), smoothing=1.0)
    with pytest.raises(ShapeError, match="sheet of 2 x 2"):
        HomeostaticThreshold((2, 2)).adapt_(torch.rand(1, 2, 3))
