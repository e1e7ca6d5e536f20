"""Lateral inhibition as the cortex believes in it: undone in the Fourier domain, and redone."""

from __future__ import annotations

import pytest
import torch

from calcarine.cortex import GivenInhibition, LearnedInhibition
from calcarine.errors import InputError, ShapeError
from calcarine.retina.inhibition import LateralInhibition

RETINA = LateralInhibition(noise_level=0.0)


def true(border_rounds: int = 0) -> GivenInhibition:
    part = GivenInhibition(border_rounds=border_rounds)
    part.give(RETINA.kernel)
    return part.double()


@pytest.mark.parametrize("size", [(64, 64), (41, 30)])
def test_nothing_is_believed_at_first(size):
    part = LearnedInhibition(7, plasticity=4.0)
    signal = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(part.encode(signal), signal, atol=1e-6)
    assert torch.allclose(part.decode(signal), signal, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_encoding_is_what_the_retina_does(dtype):
    activation = torch.rand(3, 1, 33, 26, generator=torch.Generator().manual_seed(0), dtype=dtype)
    ours = true().to(dtype).encode(activation)
    assert ours.dtype == dtype
    assert torch.allclose(ours, RETINA(activation), atol=1e-5)
    assert (ours - activation).abs().mean() > 0.1


def test_encoding_is_the_product_of_spectra():
    """The direct sum equals multiplication on a torus that leaves room for the kernel."""
    kernel = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    part = GivenInhibition(5).double()
    part.give(kernel)
    x = torch.randn(1, 1, 19, 24, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    size = (38, 48)
    placed = torch.zeros(size, dtype=torch.double)
    placed[:5, :5] = kernel.flip(0, 1)
    spectrum = torch.fft.fft2(placed.roll((-2, -2), (0, 1)))
    product = torch.fft.ifft2(torch.fft.fft2(x, s=size) * spectrum).real[..., :19, :24]
    assert torch.allclose(part.encode(x), product, atol=1e-12)


def test_decoding_undoes_the_retina_away_from_the_border_and_rounds_undo_it_there():
    activation = torch.rand(
        2, 1, 48, 40, generator=torch.Generator().manual_seed(0), dtype=torch.double
    )
    signal = RETINA(activation)
    errors = [(true(r).decode(signal) - activation).abs() for r in (0, 2, 4, 12)]
    assert errors[0][..., 16:-16, 16:-16].max() < 2e-3
    worst = [error.max().item() for error in errors]
    assert worst[0] > 0.1
    assert worst[1] < 0.5 * worst[0]
    assert worst[2] < 0.5 * worst[1]
    assert worst[3] < 1e-3


def test_an_asymmetric_kernel_is_not_turned_around():
    kernel = torch.zeros(3, 3, dtype=torch.double)
    kernel[1, 1], kernel[0, 2] = 1.0, -0.4
    part = GivenInhibition(3, border_rounds=30).double()
    part.give(kernel)
    x = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    signal = part.encode(x)
    assert torch.allclose(signal[0, 0, 5, 5], x[0, 0, 5, 5] - 0.4 * x[0, 0, 4, 6])
    assert torch.allclose(part.decode(signal), x, atol=1e-9)


def test_division_by_a_kernel_with_a_zero_stays_finite_and_differentiable():
    part = LearnedInhibition(3).double()
    with torch.no_grad():
        part.weights.zero_()
        part.weights[1, 1], part.weights[1, 0], part.weights[1, 2] = 1.0, -0.5, -0.5
    signal = torch.rand(
        1, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.double
    )
    decoded = part.decode(signal)
    decoded.square().sum().backward()
    assert decoded.isfinite().all()
    assert decoded.abs().max() <= 50 * signal.sum()
    assert part.weights.grad.isfinite().all()
    assert part.weights.grad.abs().max() > 0


@pytest.mark.parametrize("border_rounds", [0, 2])
def test_gradients_are_those_of_the_function(border_rounds):
    generator = torch.Generator().manual_seed(3)
    signal = torch.rand(1, 1, 8, 9, generator=generator, dtype=torch.double)
    kernel = 0.1 * torch.randn(3, 3, generator=generator, dtype=torch.double)
    kernel[1, 1] += 1

    def decode(weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        part = LearnedInhibition(3, border_rounds=border_rounds).double()
        return torch.func.functional_call(part, {"weights": weights}, x)

    assert torch.autograd.gradcheck(decode, (kernel.requires_grad_(), signal.requires_grad_()))


def test_a_kernel_is_learned_from_what_it_did():
    """Plasticity multiplies the speed: the same steps of Adam go four times as far."""
    errors = []
    for plasticity in (1.0, 4.0):
        part = LearnedInhibition(7, plasticity)
        optimiser = torch.optim.Adam(part.parameters(), lr=2e-3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(60):
            activation = torch.rand(4, 1, 24, 24, generator=generator)
            loss = (part.encode(activation) - RETINA(activation)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        errors.append((part.kernel.detach() - RETINA.kernel).norm().item())
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.15


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="odd kernel_size"):
        LearnedInhibition(6)
    with pytest.raises(InputError, match="plasticity"):
        LearnedInhibition(7, plasticity=0)
    with pytest.raises(InputError, match="border_rounds"):
        GivenInhibition(7, border_rounds=-1)
    with pytest.raises(ShapeError, match="Set kernel_size=5"):
        GivenInhibition(7).give(torch.zeros(5, 5))
    for part in (LearnedInhibition(7), GivenInhibition(7)):
        for call in (part.encode, part.decode):
            with pytest.raises(ShapeError, match="at least 7 x 7"):
                call(torch.rand(2, 1, 6, 12))
            with pytest.raises(ShapeError, match=r"axes \(batch, 1, height, width\)"):
                call(torch.rand(2, 3, 12, 12))
