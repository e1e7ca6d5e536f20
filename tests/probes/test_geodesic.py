"""Geodesics: closed forms, straightness, and paths on disk."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calcarine.errors import FileFormatError, InputError, NonFiniteError, ShapeError
from calcarine.probes import Geodesic, Metamer


def ends(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    both = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    both = 0.2 + 0.6 * both
    return both[:1], both[1:]


def spectrum(x: Tensor) -> Tensor:
    return torch.fft.rfft2(x.square(), norm="ortho")


def local_energy(x: Tensor) -> Tensor:
    return F.avg_pool2d(x.diff(dim=-1).square(), (3, 3), stride=1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.float64, 1e-4)])
@pytest.mark.parametrize("model", [torch.square, spectrum])
def test_squares_have_a_closed_form(model, dtype, tolerance):
    """Where f is x^2, or unitary in x^2, the straight line is sqrt((1 - t) a^2 + t b^2)."""
    start, end = ends(2, 7, 9, dtype=dtype)
    probe = Geodesic(start, end, model, steps=8).synthesize(800, 1e-9, progress=False)
    t = torch.linspace(0, 1, 9, dtype=dtype)[:, None, None, None]
    expected = ((1 - t) * start.square() + t * end.square()).sqrt()
    assert probe.status == "converged"
    assert probe.path.dtype == dtype
    torch.testing.assert_close(probe.path, expected, atol=tolerance, rtol=0)
    assert probe.losses.energy[0] > 1.001
    assert float(probe.losses.energy[-1]) == pytest.approx(1, abs=tolerance)
    along, beside = probe.deviation()
    torch.testing.assert_close(along, t.flatten(), atol=10 * tolerance, rtol=0)
    assert beside.max() < 10 * tolerance
    assert probe.deviation(probe.initial)[1].max() > 0.01


def test_for_a_linear_model_the_straight_line_stays():
    start, end = ends(1, 16, 16)
    probe = Geodesic(start, end, lambda x: F.avg_pool2d(x, 2)).synthesize(progress=False)
    assert probe.status == "converged"
    torch.testing.assert_close(probe.path, probe.initial, atol=1e-7, rtol=0)
    torch.testing.assert_close(probe.losses.energy, torch.ones_like(probe.losses.energy))


def test_a_path_gets_straighter_and_keeps_its_ends():
    start, end = ends(1, 20, 23)
    probe = Geodesic(start, end, local_energy, steps=6).synthesize(300, progress=False)
    assert torch.equal(probe.path[:1], start)
    assert torch.equal(probe.path[-1:], end)
    assert probe.path.shape == (7, 1, 20, 23)
    assert 1 - 1e-9 < probe.losses.energy[-1] < 0.5 * probe.losses.energy[0]
    bent, straight = probe.deviation(probe.initial)[1], probe.deviation()[1]
    assert straight.max() < 0.5 * bent.max()
    assert (probe.deviation()[0].diff() > 0).all()
    points = local_energy(probe.path).flatten(1)
    energy = 6 * points.diff(dim=0).square().sum() / (points[-1] - points[0]).square().sum()
    torch.testing.assert_close(probe.losses.energy[-1], energy)


def test_it_goes_on_and_stores_what_is_asked():
    start, end = ends(1, 12, 12)
    whole = Geodesic(start, end, local_energy, steps=4)
    whole.synthesize(30, 0.0, store_every=8, progress=False)
    parts = Geodesic(start, end, local_energy, steps=4)
    for n in (13, 17):
        parts.synthesize(n, 0.0, store_every=8, progress=False)
    assert torch.equal(whole.path, parts.path)
    assert whole.history.iterations == parts.history.iterations == (0, 8, 16, 24, 30)
    assert whole.history.images.shape == (5, 3, 1, 12, 12)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_saved_in_the_middle_it_goes_on(tmp_path, optimizer):
    start, end = ends(1, 12, 12)
    whole = Geodesic(start, end, spectrum, steps=4)
    whole.synthesize(20, 0.0, optimizer, progress=False)
    half = Geodesic(start, end, spectrum, steps=4).synthesize(9, 0.0, optimizer, progress=False)
    path = half.save(tmp_path / "geodesic.safetensors")
    read = Geodesic.load(path, spectrum)
    assert (read.steps, read.status, read.iterations) == (4, "max_iter", 9)
    assert torch.equal(read.path, half.path)
    read.synthesize(11, 0.0, optimizer, progress=False)
    assert torch.equal(read.path, whole.path)
    assert torch.equal(read.losses.energy, whole.losses.energy)
    with pytest.raises(InputError, match="another model"):
        Geodesic.load(path, local_energy)
    with pytest.raises(FileFormatError, match="expected one of 'metamer'"):
        Metamer.load(path, spectrum)


def test_saved_before_it_began_it_begins(tmp_path):
    start, end = ends(1, 12, 12)
    path = Geodesic(start, end, spectrum, steps=3).save(tmp_path / "a.safetensors")
    read = Geodesic.load(path, spectrum)
    assert read.status == "not started"
    assert read.losses.energy.shape == (0,)
    assert read.synthesize(progress=False).status == "converged"


def test_an_initial_path_is_where_it_begins():
    start, end = ends(1, 12, 12)
    bent = torch.cat([start, torch.rand(3, 1, 12, 12).double(), end])
    probe = Geodesic(start, end, torch.square, steps=4, initial=bent)
    assert torch.equal(probe.path, bent)
    straight = Geodesic(start, end, torch.square, steps=4)
    for each in (probe, straight):
        each.synthesize(500, 1e-9, progress=False)
    torch.testing.assert_close(probe.path, straight.path, atol=1e-3, rtol=0)


def test_nan_is_refused_with_its_iteration():
    start, end = ends(1, 12, 12)
    calls = 0

    def breaks(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return local_energy(x) * (1.0 if calls < 30 else float("nan"))

    probe = Geodesic(start, end, breaks, steps=4)
    with pytest.raises(NonFiniteError, match="at iteration"):
        probe.synthesize(100, 0.0, progress=False)
    assert probe.path.isfinite().all()


START, END = ends(1, 12, 12)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": 1}, InputError, "steps >= 2"),
        ({"steps": 2.5}, InputError, "steps >= 2"),
        ({"end": START}, InputError, "tell apart"),
        ({"end": END[..., :-1]}, ShapeError, "end of the image's shape"),
        ({"end": END.float()}, InputError, "end.to"),
        ({"end": END / 0}, InputError, "finite"),
        ({"start": torch.cat([START, END])}, ShapeError, "one image at each end"),
        ({"start": START[0]}, InputError, "batch, channel, height, width"),
        ({"penalty_weight": -0.1}, InputError, "penalty_weight >= 0"),
        ({"initial": torch.cat([START, END, END])}, ShapeError, "5 steps"),
        ({"initial": torch.rand(6, 1, 12, 11).double()}, ShapeError, r"shape \(6, 1, 12, 12\)"),
        ({"initial": torch.rand(6, 1, 12, 12)}, InputError, "initial.to"),
        ({"model": lambda x: x.detach()}, InputError, "differentiable"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    settings = {"start": START, "end": END, "model": local_energy, "steps": 5} | change
    with pytest.raises(error, match=message):
        Geodesic(**settings)
