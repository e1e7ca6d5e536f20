"""The one loop: how calls end, what is recorded and stored, and what interrupts it."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError
from calcarine.probes import synthesis
from calcarine.probes.steppers import Objective
from calcarine.probes.synthesis import Plan, Synthesis


def objective(function=None, groups: int = 1) -> Objective:
    """Return sum over pixels of (x - 0.5)^2, or another function of the pixels, as one term."""

    def square(x: Tensor) -> Tensor:
        return (x - 0.5).square().flatten(1).sum(1)

    return Objective(lambda x: (function or square)(x)[None], torch.ones(1, groups).double())


def pixels(batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 1, 6, 7, generator=generator, dtype=torch.float64)


def quartic(x: Tensor) -> Tensor:
    """Falls without end but never fast: a minimum with no curvature."""
    return (x - 0.5).pow(4).flatten(1).sum(1)


def plan(max_iter: int = 50, tolerance: float = 1e-12, **more) -> Plan:
    return Plan(max_iter, tolerance, progress=False, **more)


def test_it_converges_within_the_tolerance():
    made = Synthesis(pixels())
    assert made.run(objective(), plan(), "lbfgs") == "converged"
    assert made.losses()[0, -1] <= 1e-12 < made.losses()[0, -2]
    torch.testing.assert_close(made.pixels, torch.full_like(made.pixels, 0.5), atol=1e-5, rtol=0)


def test_nothing_is_done_where_nothing_is_left_to_do():
    made = Synthesis(torch.full((1, 1, 6, 7), 0.5, dtype=torch.float64))
    assert made.run(objective(), plan(), "lbfgs") == "converged"
    assert made.iterations == 0
    assert made.losses().tolist() == [[0.0]]


def test_it_stops_at_the_number_of_iterations():
    made = Synthesis(pixels())
    assert made.run(objective(quartic), plan(7, 0.0), "lbfgs") == "max_iter"
    assert made.iterations == 7
    assert made.item_losses().shape == (1, 8, 1)


def test_it_stalls_where_the_objective_stays_above_the_tolerance():
    def floor(x: Tensor) -> Tensor:
        return (x - 0.5).square().flatten(1).sum(1) + 1

    made = Synthesis(pixels())
    assert made.run(objective(floor), plan(500), "lbfgs") == "stalled"
    assert made.iterations < 100
    again = Synthesis(pixels())
    stationary = plan(500, 1e-6, goal="stationary")
    assert again.run(objective(floor), stationary, "lbfgs") == "converged"


def test_one_image_that_stays_above_does_not_stop_the_others():
    """The first image cannot get below 1; the second falls slowly, and is waited for."""

    def uneven(x: Tensor) -> Tensor:
        return (x - 0.5).pow(4).flatten(1).sum(1) + torch.tensor([1.0, 0.0]).to(x)

    made = Synthesis(pixels(2))
    optimizer = lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.8)  # noqa: E731
    status = made.run(objective(uneven, 2), plan(4000, 1e-6), optimizer)
    assert status == "stalled"
    assert made.item_losses()[0, -1, 0] >= 1
    assert made.item_losses()[0, -1, 1] <= 1e-6
    assert made.iterations > 120


def test_it_diverges_with_a_step_that_is_too_long():
    made = Synthesis(pixels())
    status = made.run(objective(), plan(500), lambda p: torch.optim.SGD(p, lr=1.5))
    assert status == "diverged"
    assert made.losses()[0, -1] > 100 * made.losses()[0, 0]


def test_a_further_objective_is_judged_by_its_own_values():
    """What the objective before reached neither ends the next one nor makes it diverge."""
    made = Synthesis(pixels())
    assert made.run(objective(), plan(), "lbfgs") == "converged"

    def farther(x: Tensor) -> Tensor:
        return (x - 0.7).square().flatten(1).sum(1)

    assert made.run(objective(farther), plan(), "lbfgs", fresh=True) == "converged"
    torch.testing.assert_close(made.pixels, torch.full_like(made.pixels, 0.7), atol=1e-5, rtol=0)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_images_are_stored_when_asked_and_at_the_end(optimizer):
    made = Synthesis(pixels())
    made.run(objective(quartic), plan(10, 0.0, store_every=4), optimizer)
    history = made.history()
    assert history.iterations == (0, 4, 8, 10)
    assert history.images.shape == (4, 1, 1, 6, 7)
    assert torch.equal(history.images[0], pixels())
    assert torch.equal(history.images[-1], made.pixels)
    for image, n in zip(history.images, history.iterations, strict=True):
        assert torch.equal(quartic(image)[0], made.losses()[0, n])


def test_stored_images_are_those_of_a_run_without_a_stop():
    made = Synthesis(pixels())
    for _ in range(2):
        made.run(objective(quartic), plan(10, 0.0, store_every=4), "adam")
    assert made.history().iterations == (0, 4, 8, 12, 16, 20)


def test_nothing_is_stored_unasked():
    made = Synthesis(pixels())
    made.run(objective(), plan(3), "lbfgs")
    assert made.history().iterations == ()
    assert made.history().images.shape == (0, 1, 1, 6, 7)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("every", [1, 25])
def test_nan_is_refused_with_its_iteration_and_the_pixels_before(monkeypatch, optimizer, every):
    """Also where the loop looks every 25 iterations only, as on a GPU."""
    monkeypatch.setitem(synthesis._LOOK_EVERY, "cpu", every)
    calls = 0

    def breaks(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return quartic(x) if calls <= 6 else quartic(x) * float("nan")

    made = Synthesis(pixels())
    with pytest.raises(NonFiniteError, match="at iteration 6"):
        made.run(objective(breaks), plan(100, 0.0), optimizer)
    assert made.pixels.isfinite().all()
    # Call 1 was before any iteration, so iteration 5 was the last that gave a number.
    assert torch.equal(quartic(made.pixels)[0], made.losses()[0, 5])
    assert made.run(objective(quartic), plan(3), optimizer) in ("max_iter", "converged")


def test_nan_before_any_step_is_told_apart():
    made = Synthesis(pixels())
    with pytest.raises(NonFiniteError, match="at iteration 0, before any step"):
        made.run(objective(lambda x: quartic(x) / 0 * 0), plan(), "lbfgs")
    assert torch.equal(made.pixels, pixels())
    with pytest.raises(NonFiniteError, match="before any step"):
        made.run(objective(lambda x: (x * 0).sqrt().sum((1, 2, 3))), plan(), "lbfgs", fresh=True)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_the_step_and_keeps_the_result(kind):
    calls = 0

    def interrupts(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 5:
            os.kill(os.getpid(), kind)
        return quartic(x)

    made = Synthesis(pixels())
    assert made.run(objective(interrupts), plan(100, 0.0), "lbfgs") == "interrupted"
    assert made.iterations == 4
    assert torch.equal(quartic(made.pixels)[0], made.losses()[0, -1])
    made.run(objective(quartic), plan(6, 0.0), "lbfgs")
    whole = Synthesis(pixels())
    whole.run(objective(quartic), plan(10, 0.0), "lbfgs")
    assert torch.equal(whole.pixels, made.pixels)


def test_seconds_add_up():
    made = Synthesis(pixels())
    made.run(objective(quartic), plan(3, 0.0), "lbfgs")
    first = made.seconds
    made.run(objective(quartic), plan(3, 0.0), "lbfgs")
    assert 0 < first < made.seconds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_iter": 0}, "max_iter >= 1"),
        ({"max_iter": 2.5}, "max_iter >= 1"),
        ({"tolerance": -1.0}, "tolerance >= 0"),
        ({"tolerance": float("nan")}, "tolerance >= 0"),
        ({"store_every": 0}, "store_every >= 1"),
        ({"store_every": 1.5}, "store_every >= 1"),
    ],
)
def test_impossible_plans_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        plan(**settings)


def test_progress_shows_the_losses(capsys):
    made = Synthesis(pixels())
    made.run(objective(quartic), Plan(5, 0.0, names=("distance",)), "lbfgs")
    assert "iteration 5/5" in (shown := capsys.readouterr().err)
    assert "distance" in shown
    made.run(objective(quartic), plan(5, 0.0), "lbfgs")
    assert capsys.readouterr().err == ""
