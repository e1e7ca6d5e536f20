"""Receptive fields: a known filter comes back, exactly or within its standard error."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from calcarine.errors import InputError, NonFiniteError, ShapeError, UnknownNameError
from calcarine.lgn import CenterSurround, gaussian_kernel
from calcarine.probes import receptive_field
from calcarine.retina import LateralInhibition


class Linear(nn.Module):
    """Two units that weigh the whole image."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(2, *shape, generator=generator), False)

    def forward(self, image: Tensor) -> Tensor:
        return torch.einsum("kchw,bchw->bk", self.weight, image)[:, None] + 7


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(1, 9, 12), (3, 7, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_is_the_filter(shape, dtype):
    model = Linear(shape).to(dtype)
    found = receptive_field(model, shape, (0, 1))
    assert found.field.dtype == dtype
    assert torch.equal(found.field, model.weight[1])
    assert found.standard_error.abs().max() == 0
    expected = 7 + 0.5 * model.weight[1].sum()
    assert found.response.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_average_is_the_filter_within_its_error():
    """The error follows sqrt((|w|^2 + w_i^2) / n), and the deviations follow the error."""
    shape, n = (1, 12, 15), 4000
    model = Linear(shape).double()
    w = model.weight[0]
    found = receptive_field(
        model, shape, (0, 0), "spike_triggered_average", n=n, generator=seeded()
    )
    predicted = ((w.square().sum() + w.square()) / n).sqrt()
    torch.testing.assert_close(found.standard_error, predicted, rtol=0.15, atol=0)
    deviations = (found.field - w) / found.standard_error
    assert deviations.abs().max() < 4.5
    assert deviations.std().item() == pytest.approx(1, abs=0.2)
    assert found.field.std() > 4 * found.standard_error.mean()


def test_the_error_falls_with_the_number_of_images():
    model = Linear((1, 6, 6))
    errors = []
    for n in (500, 8000):
        found = receptive_field(
            model, (1, 6, 6), (0, 0), "spike_triggered_average", n=n, generator=seeded(1)
        )
        errors.append((found.field - model.weight[0]).norm().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.35)


def test_centre_and_surround_come_back():
    model = LateralInhibition(kernel_size=5, center_sigma=0.6, surround_sigma=1.2).eval()
    exact = receptive_field(model, (1, 13, 11), 0)
    field = exact.field[0]
    torch.testing.assert_close(field[4:9, 3:8], model.kernel.to(field))
    field = field.clone()
    field[4:9, 3:8] = 0
    assert field.abs().max() == 0
    average = receptive_field(
        model, (1, 13, 11), (0, 6, 5), "spike_triggered_average", n=5000, generator=seeded()
    )
    assert ((average.field - exact.field).abs() < 4.5 * average.standard_error).all()
    assert average.field[0, 6, 5] > 10 * average.standard_error[0, 6, 5]


def test_a_relay_cell_is_a_difference_of_gaussians():
    model = CenterSurround(9, 1.0, 2.0).double()
    found = receptive_field(model, torch.full((1, 1, 20, 17), 0.5, dtype=torch.double), (0, 9, 8))
    center, surround = gaussian_kernel(9, 1.0).double(), gaussian_kernel(9, 2.0).double()
    expected = torch.zeros(20, 17, dtype=torch.double)
    expected[5:14, 4:13] = 1.25 * (center - surround).reshape(9, 9)
    torch.testing.assert_close(found.field[0], expected, rtol=0, atol=1e-7)
    assert found.response.abs() < 1e-6


def test_units_of_a_network_see_their_window():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 3)).eval()
    net.requires_grad_(False)
    image = torch.rand(1, 2, 16, 17, generator=seeded())
    field = receptive_field(net, image, (2, 4, 6)).field
    seen = field.abs().sum(0) > 0
    assert seen[4:9, 6:11].all()
    assert seen.sum() == 25
    step = 1e-3 * torch.randn(image.shape, generator=seeded())
    change = (net(image + step) - net(image - step))[0, 2, 4, 6] / 2
    assert (field * step).sum().item() == pytest.approx(change.item(), rel=1e-2)


def test_a_threshold_has_no_gradient_but_an_average():
    """For a step g the average is w times the mean slope, 1 / (std |w| sqrt(2 pi)) at threshold."""
    linear = Linear((1, 8, 8))
    rest = linear(torch.full((1, 1, 8, 8), 0.5))
    spiking = lambda image: (linear(image) > rest).to(image)  # noqa: E731
    w = linear.weight[0]
    found = receptive_field(
        spiking, (1, 8, 8), (0, 0), "spike_triggered_average", n=20000, generator=seeded()
    )
    expected = w / (0.1 * w.norm() * (2 * torch.pi) ** 0.5)
    assert ((found.field - expected).abs() < 4.5 * found.standard_error).all()
    cosine = torch.cosine_similarity(found.field.flatten(), w.flatten(), 0)
    assert cosine > 0.99
    assert found.response.item() == pytest.approx(0.5, abs=0.02)
    with pytest.raises(InputError, match=r"no gradient.*spike_triggered_average"):
        receptive_field(spiking, (1, 8, 8), (0, 0))


def test_the_same_seed_gives_the_same_field_whatever_the_progress(capsys):
    model = Linear((1, 4, 4))
    fields = [
        receptive_field(
            model, (1, 4, 4), (0, 0), "spike_triggered_average", n=300, generator=seeded(5),
            progress=shown,
        ).field
        for shown in (False, True)
    ]  # fmt: skip
    assert torch.equal(*fields)
    assert "image 300/300" in capsys.readouterr().err


def test_many_small_responses_on_a_large_one_lose_no_digits():
    linear = Linear((1, 5, 5)).double()
    lifted = lambda image: linear(image) + 1e6  # noqa: E731
    plain, high = (
        receptive_field(
            model, torch.full((1, 1, 5, 5), 0.5, dtype=torch.double), (0, 0),
            "spike_triggered_average", n=200, generator=seeded(),
        )
        for model in (linear, lifted)
    )  # fmt: skip
    torch.testing.assert_close(plain.field, high.field, rtol=0, atol=1e-7)


def test_what_cannot_be_measured_is_refused():
    model = Linear((1, 4, 4))
    with pytest.raises(UnknownNameError, match="Did you mean 'gradient'"):
        receptive_field(model, (1, 4, 4), (0, 0), "gradint")
    with pytest.raises(InputError, match=r"unit \(channel, entry\).*got \(0, 2\)"):
        receptive_field(model, (1, 4, 4), (0, 2))
    with pytest.raises(InputError, match=r"\(channel, row, column\)"):
        receptive_field(torch.sigmoid, (1, 4, 4), (0, 0))
    with pytest.raises(InputError, match="one unit, by numbers"):
        receptive_field(model, (1, 4, 4), "center")
    with pytest.raises(ShapeError, match="one floating-point image"):
        receptive_field(model, torch.rand(2, 1, 4, 4), (0, 0))
    with pytest.raises(ShapeError, match="got \\(4, 4\\)"):
        receptive_field(model, (4, 4), (0, 0))
    with pytest.raises(ShapeError, match=r"probes\.readout"):
        receptive_field(lambda image: image.flatten(1), (1, 4, 4), 0)
    with pytest.raises(InputError, match="real responses"):
        receptive_field(torch.fft.fft2, (1, 4, 4), 0)
    for wrong in ({"n": 1}, {"std": 0.0}, {"batch_size": 0}):
        with pytest.raises(InputError, match="n >= 2"):
            receptive_field(model, (1, 4, 4), (0, 0), "spike_triggered_average", **wrong)
    with pytest.raises(NonFiniteError, match="smaller std"):
        receptive_field(torch.log, (1, 4, 4), 0, "spike_triggered_average", n=500, std=1.0)
