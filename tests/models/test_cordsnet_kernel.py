"""The compiled step of CordsNet against plain torch operations."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from calcarine.models import CordsNet
from calcarine.models import _cordsnet_kernel as kernel
from calcarine.models._cordsnet_dynamics import Drive, NetworkWeights, Rates

needs_compiler = pytest.mark.skipif(
    kernel.kernel_status().startswith("torch"), reason=kernel.kernel_status()
)


def network(**settings) -> CordsNet:
    torch.manual_seed(5)
    settings = {"depth": 4, "classes": 5, "channels": 2, "image_size": (19, 14)} | settings
    model = CordsNet(**settings)
    with torch.no_grad():
        for area in model.areas:
            area.bias.normal_(0, 0.3)
    return model.eval().requires_grad_(False)


def start(model: CordsNet, batch: int) -> tuple[NetworkWeights, Rates, Drive]:
    """Return weights, rates of both signs and the drive of random images."""
    weights = model.folded()
    rates = tuple(torch.randn(batch, *area.bias.shape) for area in model.areas)
    return weights, rates, weights.drive(torch.randn(batch, model.channels, *model.size))


def double(model: CordsNet, rates: Rates, drive: Drive) -> Rates:
    """Return the plain step in double precision."""
    weights = copy.deepcopy(model).double().folded()
    return weights.step(tuple(r.double() for r in rates), Drive(*(d.double() for d in drive)))


def agree(found: Rates, expected: Rates, tolerance: float = 1e-5) -> None:
    """Sums of up to 9216 products; those of tiles are off by up to 2e-6 where rates reach 4."""
    for k, (a, b) in enumerate(zip(found, expected, strict=True), start=1):
        assert a.shape == b.shape
        assert b.abs().max() > 0.1
        assert (a - b).abs().max() < tolerance, f"area {k}"


@needs_compiler
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(
    ("depth", "size"),
    [
        (2, 32),
        (2, (255, 301)),
        (4, (51, 37)),
        (6, (40, 33)),
        (8, (19, 14)),
        (8, (100, 77)),
        (8, 1),
    ],
)
def test_a_step_is_that_of_torch_operations(depth, size, batch):
    """Tiles of both sizes that end within the area or beyond it, and areas of a single unit."""
    model = network(depth=depth, image_size=size)
    weights, rates, drive = start(model, batch)
    kept = [r.clone() for r in rates]
    ready = weights.prepared(rates)
    assert ready.kernel is not None
    agree(ready.step(rates, drive), double(model, rates, drive))
    agree(ready.step(rates, weights.drive(None)), double(model, rates, weights.drive(None)))
    assert all(torch.equal(a, b) for a, b in zip(rates, kept, strict=True))


@needs_compiler
def test_time_constants_may_differ_between_areas_channels_and_units():
    per_channel = torch.linspace(4.0, 30.0, 64).tolist()
    per_unit = torch.linspace(3.0, 40.0, 128 * 3 * 2).reshape(128, 3, 2).tolist()
    model = network(tau_ms=(per_channel, 5.0, per_unit, 20.0))
    weights, rates, drive = start(model, 3)
    agree(weights.prepared(rates).step(rates, drive), double(model, rates, drive))


@needs_compiler
def test_items_do_not_depend_on_their_company_or_on_threads():
    model = network(depth=8, image_size=40)
    weights, rates, drive = start(model, 6)
    together = weights.prepared(rates).step(rates, drive)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            again = weights.prepared(rates).step(rates, drive)
            assert all(torch.equal(a, b) for a, b in zip(together, again, strict=True))
    finally:
        torch.set_num_threads(threads)
    for item in range(6):
        alone = tuple(r[item : item + 1] for r in rates)
        seen = Drive(*(d[item : item + 1] for d in drive))
        again = weights.prepared(alone).step(alone, seen)
        assert all(torch.equal(a[item : item + 1], b) for a, b in zip(together, again, strict=True))


@needs_compiler
def test_whole_trials_agree_and_settle_where_torch_operations_do(monkeypatch):
    model = network(depth=6, image_size=(40, 33))
    pictures = torch.randn(2, 2, 40, 33)
    found = model.classify(pictures)
    settled = model.settle(pictures, tolerance=1e-6)
    monkeypatch.setattr(kernel._KERNEL.__class__, "library", lambda self: None)
    plain = network(depth=6, image_size=(40, 33))
    assert plain.folded().prepared(plain.folded().zero()).kernel is None
    assert torch.allclose(found, plain.classify(pictures), rtol=0, atol=1e-5)
    expected = plain.settle(pictures, tolerance=1e-6)
    assert settled.converged
    assert torch.allclose(settled.logits, expected.logits, rtol=0, atol=1e-5)


def test_gradients_other_dtypes_and_transforms_take_plain_steps():
    model = network()
    weights, rates, drive = start(model, 2)

    def taken(weights: NetworkWeights, rates: Rates) -> bool:
        return weights.prepared(rates).kernel is not None

    compiled = not kernel.kernel_status().startswith("torch")
    assert taken(weights, rates) == compiled
    watched = tuple(r.clone().requires_grad_() for r in rates)
    assert not taken(weights, watched)
    with torch.no_grad():
        assert taken(weights, watched) == compiled
    learning = copy.deepcopy(model).requires_grad_(True).folded()
    assert not taken(learning, rates)
    for dtype in (torch.float64, torch.bfloat16):
        other = copy.deepcopy(model).to(dtype).folded()
        assert not taken(other, tuple(r.to(dtype) for r in rates))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not taken(weights, rates)
    with torch.no_grad():
        ready = learning.prepared(rates)
        assert (ready.kernel is not None) == compiled
    assert ready.step(rates, drive)[0].requires_grad
    ready = weights.prepared(rates)
    seen = Drive(drive.first.clone().requires_grad_(), drive.second)
    after = ready.step(rates, seen)
    assert after[0].requires_grad
    assert torch.equal(after[1], weights.step(rates, seen)[1])
    linear = weights.step(rates, drive, slope=1.0)
    assert all(
        torch.equal(a, b) for a, b in zip(ready.step(rates, drive, 1.0), linear, strict=True)
    )


def test_forward_mode_sees_operations():
    model = network()
    weights, rates, drive = start(model, 1)
    tangents = tuple(torch.ones_like(r) for r in rates)
    kernels = []

    def advance(*now: Tensor) -> Rates:
        ready = weights.prepared(now)
        kernels.append(ready.kernel)
        return ready.step(now, drive)

    _, slopes = torch.func.jvp(advance, rates, tangents)
    assert kernels == [None]
    assert all(s.abs().max() > 0 for s in slopes)


@needs_compiler
def test_the_default_dtype_does_not_matter():
    model = network(depth=6, image_size=33)
    weights, rates, drive = start(model, 2)
    expected = weights.prepared(rates).step(rates, drive)
    torch.set_default_dtype(torch.float64)
    try:
        found = weights._replace(packs=None).prepared(rates).step(rates, drive)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@needs_compiler
def test_values_that_are_no_numbers_are_passed_on():
    model = network(depth=2)
    weights, rates, drive = start(model, 2)
    rates[0][1, 3, 2, 1] = float("nan")
    after = weights.prepared(rates).step(rates, drive)
    for r in after:
        assert r[0].isfinite().all()
        assert r[1].isnan().any()


@needs_compiler
def test_weights_are_packed_once_and_anew_when_they_change(monkeypatch):
    model = network()
    packed = []
    kind = kernel.Packed
    monkeypatch.setattr(kernel, "Packed", lambda *a: packed.append(1) or kind(*a))
    pictures = torch.randn(1, 2, 19, 14)
    first = model.classify(pictures, 20.0, 20.0)
    assert torch.equal(model.classify(pictures, 20.0, 20.0), first)
    assert len(packed) == 1
    model.area3.recurrent.parametrizations.weight.original0.data.mul_(1.5)
    assert not torch.equal(model.classify(pictures, 20.0, 20.0), first)
    assert len(packed) == 2
    model.area2.tau = network(tau_ms=20.0).area2.tau
    model.classify(pictures, 20.0, 20.0)
    assert len(packed) == 3
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(kernel.PackCache()))):
        cache = other._packs if isinstance(other, CordsNet) else other
        assert cache._known is None


def test_without_kernel_the_same_answer():
    code = (
        "import torch; from calcarine.models import CordsNet, _cordsnet_kernel as k;"
        "torch.manual_seed(0);"
        "m = CordsNet(depth=4, classes=3, image_size=40).eval().requires_grad_(False);"
        "[a.bias.normal_(0, 0.3) for a in m.areas];"
        "print(k.kernel_status()); print(m.classify(torch.randn(1, 3, 40, 40)).tolist()[0])"
    )
    answers = []
    for choice in ("torch", "auto"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"CALCARINE_KERNEL": choice},
        )  # fmt: skip
        status, logits = done.stdout.splitlines()
        assert choice == "auto" or status.endswith("because CALCARINE_KERNEL=torch")
        answers.append(torch.tensor([float(x) for x in logits.strip("[]").split(",")]))
    assert answers[0].abs().max() > 0.01
    assert torch.allclose(answers[0], answers[1], rtol=0, atol=1e-5)
