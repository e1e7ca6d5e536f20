"""Local connections equal their dense matrix, along every path: forward, gradients, learning."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.v1 import LocalConnection, gaussian_weights
from calcarine.v1._local_compiler import library
from calcarine.v1._local_fields import positions

# source, target, radius, margin, border: equal, larger, smaller, rectangular, long fields
LAYOUTS = [
    ((12, 10), (12, 10), 3.0, 0.0, "crop"),
    ((9, 14), (17, 11), 3.3, 0.0, "crop"),
    ((21, 20), (8, 5), 6.1, (4.25, 3.5), "crop"),
    ((13, 12), (13, 12), 4.5, 0.0, "wrap"),
    ((12, 15), (18, 10), 2.6, 0.0, "wrap"),
    ((75, 90), (5, 6), 40.0, 0.0, "crop"),
    ((7, 7), (7, 7), 0.4, 0.0, "crop"),
]
IDS = ["equal", "denser", "margin", "torus", "torus-resized", "long", "one"]


@pytest.fixture(params=["compiled", "torch"])
def path(request, monkeypatch):
    """Run a test along the compiled kernel, where there is a compiler, and along torch."""
    if request.param == "torch":
        monkeypatch.setattr("calcarine.v1._local_kernels.library", lambda: None)
    elif library() is None:
        pytest.skip("no C++ compiler")
    return request.param


def make(layout, seed=0, **settings):
    source, target, radius, margin, border = layout
    torch.manual_seed(seed)
    return LocalConnection(source, target, radius, radius, margin=margin, border=border, **settings)


def noise(*shape, dtype=torch.float64, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("layout", LAYOUTS, ids=IDS)
def test_fields_are_discs_around_the_place_of_the_unit(layout):
    source, target, radius, margin, border = layout
    connection = make(layout)
    rows, columns = (margin, margin) if isinstance(margin, float) else margin
    y = positions(source[0], target[0], rows, border)[:, None] - torch.arange(source[0])
    x = positions(source[1], target[1], columns, border)[:, None] - torch.arange(source[1])
    if border == "wrap":
        y, x = ((d + n / 2) % n - n / 2 for d, n in ((y, source[0]), (x, source[1])))
    squared = (y.square()[:, None, :, None] + x.square()[None, :, None, :]).flatten(0, 1).flatten(1)
    assert torch.equal(connection.dense() != 0, squared <= radius**2 + 1e-9)
    assert connection.count == (squared <= radius**2 + 1e-9).sum()
    torch.testing.assert_close(connection.dense().sum(dim=1), torch.ones(target[0] * target[1]))


@pytest.mark.parametrize("layout", LAYOUTS, ids=IDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("batch", [1, 3, 9, 37])
def test_forward_equals_the_dense_product(path, layout, dtype, tolerance, batch):
    connection = make(layout).to(dtype)
    x = noise(batch, *connection.source, dtype=dtype)
    expected = x.flatten(1) @ connection.dense().T
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(connection(x).flatten(1), expected, rtol=0, atol=tolerance)


def test_silent_regions_and_borders_change_nothing(path):
    """Rows and columns without activity are skipped: patches at every edge, gaps and silence."""
    connection = make(LAYOUTS[1]).double()
    x = torch.zeros(6, 9, 14, dtype=torch.float64)
    x[0, 0, 0] = x[1, -1, -1] = 1
    x[2, 3:5, 2:4] = x[2, 3:5, 11:13] = 0.5
    x[3, :, 7] = -2
    x[4] = noise(9, 14)
    torch.testing.assert_close(
        connection(x).flatten(1), x.flatten(1) @ connection.dense().T, rtol=0, atol=1e-12
    )
    assert connection(x)[5].abs().max() == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_reaches_only_the_units_that_see_it(path, value):
    connection = make(LAYOUTS[0]).double()
    x = noise(12, 10)
    x[4, 6] = value
    seen = connection.dense().reshape(12, 10, 12, 10)[:, :, 4, 6] != 0
    assert torch.equal(~connection(x).isfinite(), seen)


# Finite differences over the thousands of weights of larger layouts would take minutes.
@pytest.mark.parametrize("layout", [each for each in LAYOUTS if each[0][0] <= 50])
def test_first_and_second_gradients_are_right(path, layout):
    connection = make(layout).double()
    x = noise(2, *connection.source).requires_grad_()
    weight = connection.weight.detach().clone().requires_grad_()

    def apply(x, weight):
        return torch.func.functional_call(connection, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(apply, (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(apply, (x, weight), fast_mode=True)


def test_gradients_equal_those_of_the_dense_product(path):
    connection = make(LAYOUTS[2]).double().requires_grad_(True)
    x, grad = noise(5, 21, 20).requires_grad_(), noise(5, 8, 5, seed=1)
    found = torch.autograd.grad(connection(x), (x, connection.weight), grad)
    dense = connection.dense()
    torch.testing.assert_close(found[0].flatten(1), grad.flatten(1) @ dense)
    outer = grad.flatten(1).T @ x.detach().flatten(1)
    units = connection.tables.units()
    columns = connection.tables.columns(20).long()
    torch.testing.assert_close(found[1], outer[units, columns])


def test_forward_derivatives_and_vectorised_ones(path):
    connection = make(LAYOUTS[1]).double()
    x, tangents = noise(2, 9, 14), noise(3, 2, 9, 14, seed=1)
    _, pushed = torch.func.jvp(connection, (x,), (tangents[0],))
    torch.testing.assert_close(pushed, connection(tangents[0]))
    many = torch.func.vmap(lambda t: torch.func.jvp(connection, (x,), (t,))[1])(tangents)
    torch.testing.assert_close(many, torch.stack([connection(t) for t in tangents]))
    jacobian = torch.func.jacrev(lambda x: connection(x).flatten())(x[0])
    torch.testing.assert_close(jacobian.flatten(1), connection.dense())


def test_compiled_by_torch_it_gives_the_same_numbers(path):
    connection = make(LAYOUTS[0]).double().requires_grad_(True)
    x = noise(2, 12, 10).requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(connection, backend="aot_eager", fullgraph=True)
    plain, other = connection(x), compiled(x)
    torch.testing.assert_close(plain, other)
    for a, b in zip(
        torch.autograd.grad(plain.square().sum(), (x, connection.weight)),
        torch.autograd.grad(other.square().sum(), (x, connection.weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_leading_axes_are_batch_and_the_dtype_is_followed(path):
    connection = make(LAYOUTS[0])
    x = noise(2, 3, 12, 10, dtype=torch.float32)
    y = connection(x)
    assert y.shape == (2, 3, 12, 10)
    torch.testing.assert_close(y[1, 2], connection(x[1, 2]))
    for dtype in (torch.float64, torch.bfloat16):
        assert connection(x.to(dtype)).dtype == dtype
        torch.testing.assert_close(connection(x.to(dtype)).float(), y, atol=1e-2, rtol=1e-2)
    assert connection(x.transpose(2, 3).contiguous().transpose(2, 3)).equal(y)
    with torch.device("meta"):
        assert connection.to("meta")(torch.empty(2, 12, 10)).shape == (2, 12, 10)


@pytest.mark.parametrize(("half", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_half_precision_weights_are_rounded_once(path, half, bits):
    """Only the weights are rounded; sums are taken in full precision."""
    connection, full = make(LAYOUTS[5], precision=half), make(LAYOUTS[5])
    assert connection.weight.element_size() == 2
    x = noise(5, 75, 90, dtype=torch.float32)
    expected = x.flatten(1) @ connection.dense().float().T
    torch.testing.assert_close(connection(x).flatten(1), expected, rtol=0, atol=1e-5)
    # Weights of one sign: no sum is off by more than each weight, half a unit in the last place.
    error = (connection(x) - full(x)).abs() / full(x)
    assert 0 < error.max() < 2.0**-bits


def test_profiles(path):
    flat = LocalConnection((6, 5), (6, 5), 1.0, profile="gaussian")
    assert flat.field(2, 2)[2, 2].item() == pytest.approx(0.2)
    assert flat.field(0, 0)[0, 0].item() == pytest.approx(1 / 3)
    smooth = LocalConnection((8, 9), (5, 4), 3.0, 1.5, profile="gaussian")
    dense = gaussian_weights((8, 9), (5, 4), 1.5) * (smooth.dense() != 0)
    torch.testing.assert_close(smooth.dense(), dense / dense.sum(dim=1, keepdim=True))


def test_the_same_seed_draws_the_same_weights(monkeypatch):
    connection = make(LAYOUTS[1])
    draws = [
        connection.reset_(torch.Generator().manual_seed(seed)).weight.clone() for seed in (3, 3, 4)
    ]
    assert draws[0].equal(draws[1])
    assert not draws[0].equal(draws[2])
    monkeypatch.setattr("calcarine.v1._local_fields._BLOCK", 300)
    in_blocks = connection.reset_(torch.Generator().manual_seed(3)).weight
    torch.testing.assert_close(in_blocks, draws[0])


def test_shrinking_keeps_the_inner_weights_and_survives_a_checkpoint(path):
    connection = make(LAYOUTS[1]).double()
    before, x = connection.dense(), noise(2, 9, 14)
    connection.shrink_(1.7)
    inner = make(((9, 14), (17, 11), 1.7, 0.0, "crop")).dense() != 0
    expected = before * inner
    torch.testing.assert_close(connection.dense(), expected / expected.sum(dim=1, keepdim=True))
    again = make(LAYOUTS[1]).double()
    again.load_state_dict(connection.state_dict())
    assert again.current_radius == 1.7
    assert again(x).equal(connection(x))
    assert copy.deepcopy(connection)(x).equal(connection(x))
    with pytest.raises(InputError, match="cannot grow back"):
        connection.shrink_(2.0)
    with pytest.raises(InputError, match="fields are empty at radius"):
        connection.shrink_(0.1)
    assert connection(x).equal(again(x))


def test_pruned_connections_are_gone_for_good(path):
    connection = make(LAYOUTS[0]).double()
    weak = connection.dense()
    weak = (weak < 0.02) & (weak > 0)
    assert weak.sum() > 100
    connection.prune_(0.02)
    assert (connection.dense()[weak] == 0).all()
    torch.testing.assert_close(connection.dense().sum(dim=1), torch.ones(120).double())
    connection.hebbian_(noise(12, 10), noise(12, 10, seed=1), 0.5)
    assert (connection.dense()[weak] == 0).all()
    connection.prune_(10.0)
    assert (connection.dense().sum(dim=1) > 0.99).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": 30}, "within the source sheet"),
        ({"radius": 0}, "radius > 0"),
        ({"radius": float("nan")}, "radius > 0"),
        ({"radius": 6, "border": "wrap"}, "around the torus"),
        ({"target": (19, 17), "radius": 0.3}, "fields are empty at radius 0.3"),
        ({"source": (12,)}, "source as \\(height, width\\)"),
        ({"sigma": -1.0}, "sigma > 0"),
        ({"margin": 7.0}, "margins from 0 to half"),
        ({"margin": 1.0, "border": "wrap"}, "margins from 0 to half"),
        ({"border": "mirror"}, "border 'crop' or 'wrap'"),
        ({"profile": "difference"}, "sigma and sigma_surround"),
        ({"sigma_surround": 2.0}, "no sigma_surround"),
        ({"profile": "cone"}, "profile 'gaussian', 'cloud'"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(InputError, match=message):
        LocalConnection(**{"source": (12, 10), "target": (12, 10), "radius": 3.0} | settings)


def test_activity_of_another_sheet_is_refused():
    connection = make(LAYOUTS[0])
    for wrong in (torch.rand(2, 10, 12), torch.rand(120), torch.ones(12, 10, dtype=torch.long)):
        with pytest.raises(ShapeError, match="sheet of 12 x 10"):
            connection(wrong)
    with pytest.raises(InputError, match="on cpu, where its weights are, got meta"):
        connection(torch.rand(2, 12, 10, device="meta"))
    with pytest.raises(ShapeError, match="weights for its fields"):
        torch.func.functional_call(connection, {"weight": torch.rand(7)}, torch.rand(2, 12, 10))
    with pytest.raises(InputError, match="unit of the 12 x 10 sheet"):
        connection.field(12, 0)


def test_without_the_kernel_everything_runs():
    """A machine without a compiler: nothing is built, and the numbers are the same."""
    code = (
        "import torch; from calcarine.v1 import LocalConnection;"
        "from calcarine.v1._local_compiler import kernel_status;"
        "torch.manual_seed(0); c = LocalConnection((12, 10), (12, 10), 3.0, 3.0);"
        "c.hebbian_(torch.ones(12, 10), torch.ones(12, 10), 0.1);"
        "print(kernel_status()); print(c(torch.ones(1, 12, 10)).sum().item())"
    )
    said = {}
    for name, settings in {
        "torch": {"CALCARINE_KERNEL": "torch"}, "none": {"PATH": ""}, "auto": {},
    }.items():  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True,
            text=True, env=os.environ | settings,
        )  # fmt: skip
        said[name] = done.stdout.splitlines()
    assert "CALCARINE_KERNEL=torch" in said["torch"][0]
    assert "no C++ compiler" in said["none"][0]
    assert all(float(each[1]) == pytest.approx(120, rel=1e-5) for each in said.values())
