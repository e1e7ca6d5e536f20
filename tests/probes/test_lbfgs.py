"""The optimiser of pixels against closed forms and against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from calcarine.probes.lbfgs import LbfgsState, lbfgs_begin, lbfgs_step


class CountsReads(TorchDispatchMode):
    """Counts reads of a number by the host, as ``.item()`` and ``bool()`` make them."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def with_gradient(objective):
    """Turn pixels -> (G,) into what the optimiser evaluates."""

    def evaluate(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = pixels.detach().requires_grad_()
        value = objective(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), value.detach()[None], gradient

    return evaluate


def quadratic(condition: float, size: int, dtype: torch.dtype):
    """Return (x - m)' D (x - m) / 2 with D from 1 to the condition number, and m."""
    scales = torch.logspace(0, torch.tensor(condition).log10().item(), size, dtype=dtype)
    minimum = torch.linspace(-1, 1, size, dtype=dtype)
    return lambda x: 0.5 * (scales * (x - minimum).square()).sum(1), minimum


def run(objective, start: Tensor, steps: int) -> list[LbfgsState]:
    evaluate = with_gradient(objective)
    states = [lbfgs_begin(start, evaluate)]
    for _ in range(steps):
        states.append(lbfgs_step(states[-1], evaluate))
    return states


@pytest.mark.parametrize(
    ("dtype", "condition", "tolerance"),
    [
        (torch.float64, 10.0, 1e-12),
        (torch.float64, 1e3, 1e-10),
        (torch.float32, 10.0, 1e-5),
        (torch.float32, 1e3, 1e-3),
    ],
)
def test_a_quadratic_is_solved_to_the_precision_of_its_numbers(dtype, condition, tolerance):
    objective, minimum = quadratic(condition, 40, dtype)
    last = run(objective, torch.zeros(1, 40, dtype=dtype), 400)[-1]
    assert last.pixels.dtype == dtype
    assert (last.pixels[0] - minimum).abs().max() < tolerance


def test_convergence_is_superlinear_when_the_memory_spans_the_space():
    """With more pairs than dimensions the error's logarithm falls faster and faster."""
    objective, _ = quadratic(100.0, 6, torch.float64)
    values = torch.stack([s.value[0] for s in run(objective, torch.zeros(1, 6).double(), 30)])
    first = int((values < 1e-4 * values[0]).nonzero()[0])
    tiny = int((values < 1e-20 * values[0]).nonzero()[0])
    # Linear convergence would take four times as long for the next sixteen orders of magnitude.
    assert tiny - first < 2 * first


def test_no_more_evaluations_than_the_optimizer_of_pytorch():
    objective, minimum = quadratic(1e3, 60, torch.float64)
    states = run(objective, torch.zeros(1, 60).double(), 400)
    errors = [float((s.pixels[0] - minimum).norm()) for s in states]
    ours = 1 + next(i for i, error in enumerate(errors) if error < 1e-6)
    x = torch.zeros(1, 60, dtype=torch.float64, requires_grad=True)
    count, theirs = 0, None
    optimizer = torch.optim.LBFGS(
        [x],
        max_iter=1,
        history_size=12,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        nonlocal count
        count += 1
        optimizer.zero_grad()
        value = objective(x).sum()
        value.backward()
        return value

    while theirs is None:
        optimizer.step(closure)
        error = float((x.detach()[0] - minimum).norm())
        theirs = count if error < 1e-6 or count > 1000 else None
    assert ours <= theirs


@pytest.mark.parametrize("start", [(-1.2, 1.0), (0.0, 0.0), (2.0, -2.0)])
def test_the_valley_of_rosenbrock_is_followed_to_its_end(start):
    def rosenbrock(x: Tensor) -> Tensor:
        return (1 - x[:, 0]).square() + 100 * (x[:, 1] - x[:, 0].square()).square()

    last = run(rosenbrock, torch.tensor([start], dtype=torch.float64), 150)[-1]
    torch.testing.assert_close(last.pixels, torch.ones(1, 2).double(), atol=1e-8, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_group_goes_as_it_would_alone(dtype):
    """Three starts of a bumpy objective, one of them after refused steps, together and alone."""

    def bumpy(x: Tensor) -> Tensor:
        return (x.square() + 0.3 * (7 * x).sin()).sum(1) + x.roll(1, 1).mul(x).sum(1)

    start = torch.randn(3, 25, generator=torch.Generator().manual_seed(4), dtype=dtype)
    # Not far: a bumpy objective doubles rounding errors every few steps.
    together = run(bumpy, start, 15)
    refusals = torch.stack([s.refused > 0 for s in together])
    assert bool((refusals.any(1) & ~refusals.all(1)).any())
    for i in range(3):
        alone = run(bumpy, start[i : i + 1], 15)[-1]
        tolerance = 1e-4 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(
            together[-1].pixels[i], alone.pixels[0], atol=tolerance, rtol=tolerance
        )
        assert together[-1].next_slot[i] == alone.next_slot[0]


@pytest.mark.parametrize("wall", ["value", "gradient"])
def test_trials_that_are_no_numbers_are_refused_and_the_step_shrinks(wall):
    """A wall at 0.01, where the value or only its gradient is NaN, before the minimum behind it."""

    def evaluate(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        value, gradient = (pixels - 1).square().sum(1), 2 * (pixels - 1)
        behind = (pixels > 0.01).any(1)
        if wall == "value":
            value = torch.where(behind, float("nan"), value)
        else:
            gradient = torch.where(behind[:, None], float("nan"), gradient)
        return value, value[None], gradient

    first = lbfgs_begin(torch.zeros(1, 5, dtype=torch.float64), evaluate)
    state = lbfgs_step(first, evaluate)
    assert torch.equal(state.pixels, first.pixels)
    assert state.undefined == 1
    assert 0 < state.step < first.step
    for _ in range(30):
        state = lbfgs_step(state, evaluate)
        assert state.value.isfinite().all()
        assert state.gradient.isfinite().all()
    assert 0 < float(state.pixels[0, 0]) <= 0.01


def test_a_group_that_cannot_descend_says_so():
    """A gradient that points uphill: every step raises the value, however short."""

    def lies(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        value = pixels.abs().sum(1) + 1
        return value, value[None], -pixels.sign()

    start = torch.full((1, 8), 0.5, dtype=torch.float64)
    state = lbfgs_begin(start, lies)
    for _ in range(19):
        state = lbfgs_step(state, lies)
        assert not state.stuck
    state = lbfgs_step(state, lies)
    assert state.stuck
    assert torch.equal(state.pixels, start)


def test_a_step_that_changes_no_pixel_is_refused():
    """Far below the last digit of the pixels a step changes nothing, and is no progress."""

    def flat(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        value = torch.zeros_like(pixels[:, 0])
        return value, value[None], torch.zeros_like(pixels)

    state = lbfgs_begin(torch.full((1, 8), 0.5), flat)
    assert lbfgs_step(state, flat).refused == 1


def test_stopping_and_resuming_from_a_copy_changes_nothing():
    objective, _ = quadratic(50.0, 30, torch.float64)
    evaluate = with_gradient(objective)
    whole = run(objective, torch.zeros(1, 30).double(), 40)[-1]
    state = run(objective, torch.zeros(1, 30).double(), 17)[-1]
    state = LbfgsState(**{name: value.clone() for name, value in state._asdict().items()})
    for _ in range(23):
        state = lbfgs_step(state, evaluate)
    for mine, theirs in zip(whole, state, strict=True):
        assert torch.equal(mine, theirs)


def test_a_step_never_asks_the_device_for_a_number():
    objective, _ = quadratic(50.0, 30, torch.float64)
    evaluate = with_gradient(objective)
    with CountsReads() as counter:
        state = lbfgs_begin(torch.zeros(2, 30).double(), evaluate)
        for _ in range(25):
            state = lbfgs_step(state, evaluate)
    assert counter.reads == 0
    with counter:
        float(state.value[0])
    assert counter.reads == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bottom_is_no_number_trouble(dtype):
    """Where the gradient is exactly zero, at the beginning or after a step, nothing is NaN."""

    def bowl(x: Tensor) -> Tensor:
        return (x - 0.5).square().sum(1) + 1

    for start in (torch.full((1, 42), 0.5, dtype=dtype), torch.zeros(1, 42, dtype=dtype)):
        last = run(bowl, start, 40)[-1]
        assert last.undefined == 0
        assert last.stuck
        assert float(last.value) == pytest.approx(1)
