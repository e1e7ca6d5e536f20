"""Tuning curves: filters with a known transfer function, simple and complex cells, widths."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.probes import TuningCurves, tuning_curves
from calcarine.retina import LateralInhibition
from calcarine.stimuli import GratingSet
from calcarine.v1 import ComplexCells, SimpleCells

FREQUENCY, SIZE = 0.125, 41


def gabors(orientations_deg: tuple[float, ...]) -> Tensor:
    """Even and odd Gabor filters (2 K, 1, 21, 21) without response to uniform light."""
    grid = torch.arange(-10, 11, dtype=torch.double)
    y, x = grid[:, None], grid[None]
    kernels = []
    for o in map(math.radians, orientations_deg):
        u = -x * math.sin(o) - y * math.cos(o)
        envelope = torch.exp(-(x**2 + y**2) / (2 * 4.0**2))
        even = envelope * torch.cos(2 * math.pi * FREQUENCY * u)
        even = even - envelope * even.sum() / envelope.sum()
        kernels += [even, envelope * torch.sin(2 * math.pi * FREQUENCY * u)]
    return torch.stack(kernels)[:, None]


def transfer(kernel: Tensor, orientation_deg: float, frequency: float) -> float:
    """|H| at one frequency."""
    grid = torch.arange(-10, 11, dtype=torch.double)
    o = math.radians(orientation_deg)
    u = -grid[None] * math.sin(o) - grid[:, None] * math.cos(o)
    return torch.polar(kernel, 2 * math.pi * frequency * u).sum().abs().item()


class Linear(nn.Module):
    def __init__(self, *orientations_deg: float) -> None:
        super().__init__()
        self.kernel = nn.Parameter(gabors(orientations_deg), False)

    def forward(self, image: Tensor) -> Tensor:
        return F.conv2d(image, self.kernel)


class Simple(Linear):
    def forward(self, image: Tensor) -> Tensor:
        return F.relu(super().forward(image))


class Complex(Linear):
    def forward(self, image: Tensor) -> Tensor:
        pairs = super().forward(image)
        return torch.hypot(pairs[:, ::2], pairs[:, 1::2])


def test_a_linear_filter_answers_with_its_transfer_function():
    """Centre unit, field without a disk: F1 = mean contrast |H|, F0 = 0."""
    model = Linear(30.0)
    stimuli = GratingSet(SIZE, (0, 30, 75, 110), (0.05, 0.125, 0.3), contrasts=(0.5, 1.0))
    curves = tuning_curves(model, stimuli)
    assert curves.unit_shape == (2,)
    assert curves.responses.shape == (2, 4, 3, 8, 2, 1)
    for unit in range(2):
        for i, o in enumerate(stimuli.orientations_deg):
            for j, f in enumerate(stimuli.frequencies_cpp):
                gain = transfer(model.kernel[unit, 0], o, f)
                for k, c in enumerate(stimuli.contrasts):
                    found = curves.f1[unit, i, j, k, 0].item()
                    assert found == pytest.approx(0.5 * c * gain, abs=1e-10)
    assert curves.f0.abs().max() < 1e-10
    assert (curves.modulation > 1e6).all()
    torch.testing.assert_close(curves.curve("contrast")[:, 0] * 2, curves.curve("contrast")[:, 1])


@pytest.mark.parametrize("model_class", [Linear, Simple, Complex])
@pytest.mark.parametrize("orientation", [40.0, 170.0])
def test_preferences_are_those_of_the_filter(model_class, orientation):
    curves = tuning_curves(model_class(orientation), GratingSet(SIZE))
    away = (curves.preferred_orientation_deg - orientation + 90).remainder(180) - 90
    assert away.abs().max() < 1.0
    assert (curves.preferred("frequency") == 0.125).all()
    grid = (curves.preferred("orientation") - orientation + 90).remainder(180) - 90
    assert grid.abs().max() <= 7.5
    assert (curves.circular_variance < 0.5).all()
    assert (curves.orientation_selectivity > 0.9).all()
    # A Gaussian envelope of 4 px passes frequencies with a Gaussian of 1 / (8 pi) cycles per px.
    spread = math.sqrt(2 * math.log(2)) / (8 * math.pi)
    octaves = math.log2((FREQUENCY + spread) / (FREQUENCY - spread))
    torch.testing.assert_close(
        curves.bandwidth_octaves, torch.full_like(curves.blank, octaves), rtol=0.12, atol=0
    )


@pytest.mark.parametrize("cells", [SimpleCells, ComplexCells])
def test_cells_of_the_visual_cortex_are_tuned_as_they_say(cells):
    """One convention of orientation and frequency from the stimuli to the cells."""
    model = cells((32, 48), frequencies_cpp=(0.25, 0.125), orientations_deg=(0.0, 45.0, 120.0))
    curves = tuning_curves(model.eval(), GratingSet((32, 48)))
    assert len(curves.blank) == len(model.cells)
    for unit, (frequency, orientation, *_) in enumerate(model.cells):
        away = (curves.preferred_orientation_deg[unit].item() - orientation + 90) % 180 - 90
        assert abs(away) < 1
        assert curves.preferred("frequency")[unit].item() == pytest.approx(frequency)
    assert ((curves.modulation > 1) == (cells is SimpleCells)).all()


def test_simple_cells_follow_the_phase_and_complex_cells_do_not():
    """Half a sine wave: F0 = a / pi and F1 = a / 2, so F1 / F0 = pi / 2."""
    phases = tuple(360 / 64 * k for k in range(64))
    stimuli = GratingSet(SIZE, (30,), (FREQUENCY,), phases)
    assert (tuning_curves(Simple(30.0), stimuli).modulation - math.pi / 2).abs().max() < 5e-3
    complex_cells = tuning_curves(Complex(30.0), stimuli)
    assert complex_cells.modulation.item() < 0.05
    even, odd = (transfer(k[0], 30.0, FREQUENCY) for k in Linear(30.0).kernel)
    assert even == pytest.approx(odd, rel=0.02)
    assert complex_cells.strength.item() == pytest.approx(0.5 * even, rel=0.02)


def test_the_blank_field_is_subtracted():
    model = Complex(30.0)
    plain = tuning_curves(model, GratingSet(SIZE, frequencies_cpp=(FREQUENCY,)))
    lifted = tuning_curves(lambda x: model(x) + 3, GratingSet(SIZE, frequencies_cpp=(FREQUENCY,)),
                           dtype=torch.double)  # fmt: skip
    assert lifted.blank.item() == pytest.approx(3, abs=1e-6)
    torch.testing.assert_close(plain.f0, lifted.f0)


def test_a_surround_prefers_a_disk_of_some_size():
    retina = LateralInhibition(31, 1.5, 5.0, 0.9).eval()
    diameters = (1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 20.0, 40.0)
    stimuli = GratingSet(63, (0,), (0.01,), diameters_px=diameters)
    curves = tuning_curves(retina, stimuli)
    best = curves.preferred("diameter").item()
    assert best in (6.0, 8.0)
    curve = curves.curve("diameter")[0]
    rise = diameters.index(best)
    assert (curve[: rise + 1].diff() > 0).all()
    assert (curve[rise:].diff() < 0).all()
    assert curve[-1] < 0.5 * curve[rise]


def made_up(by_orientation: Tensor, by_frequency: Tensor | None = None) -> TuningCurves:
    """Complex cells with given curves."""
    by_frequency = torch.ones(1) if by_frequency is None else by_frequency
    n, m = by_orientation.shape[1], len(by_frequency)
    stimuli = GratingSet(
        8,
        tuple(180 / n * k for k in range(n)),
        tuple(2.0 ** (k / 2 - 5) for k in range(m)),
        (0, 180),
    )
    responses = by_orientation[:, :, None, None, None, None] * by_frequency[:, None, None, None]
    responses = responses.expand(-1, -1, -1, 2, -1, -1)
    return TuningCurves(stimuli, responses, torch.zeros(len(responses)), (len(responses),))


def test_measures_of_orientation_in_closed_form():
    """Cos^2 tuning: variance 1/2, half-width arccos 2^(-1/4); flat: 1, none; one spike: 0."""
    angles = torch.deg2rad(torch.arange(180.0))
    flat, spike = torch.ones(180), torch.zeros(180)
    spike[170] = 1
    curves = made_up(torch.stack([torch.cos(angles - 1).square(), flat, spike]))
    torch.testing.assert_close(curves.circular_variance, torch.tensor([0.5, 1.0, 0.0]))
    assert curves.preferred_orientation_deg[[0, 2]].tolist() == pytest.approx(
        [math.degrees(1), 170], abs=1e-3
    )
    widths = curves.orientation_half_width_deg
    assert widths[0].item() == pytest.approx(math.degrees(math.acos(2**-0.25)), abs=0.02)
    assert math.isnan(widths[1])
    assert widths[2].item() == pytest.approx(1 - 1 / math.sqrt(2), abs=1e-4)
    torch.testing.assert_close(
        curves.orientation_selectivity, torch.tensor([1.0, 0.0, 1.0]), rtol=0, atol=1e-3
    )


def test_bandwidth_in_octaves():
    """A tent two octaves wide at its foot falls to one half after half an octave."""
    tent = torch.tensor([0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0])
    assert made_up(torch.ones(1, 2), tent).bandwidth_octaves.item() == pytest.approx(1)
    assert math.isnan(made_up(torch.ones(1, 2), tent[2:4]).bandwidth_octaves.item())


def test_units_can_be_chosen():
    model = Linear(30.0)
    stimuli = GratingSet((25, 23), (0, 45), (0.1, 0.2), (0, 90))
    everywhere = tuning_curves(model, stimuli, units="map")
    assert everywhere.unit_shape == (2, 5, 3)
    assert len(everywhere.blank) == 30
    center = tuning_curves(model, stimuli, batch_size=3)
    by_place = everywhere.responses.reshape(2, 5, 3, *stimuli.shape)
    torch.testing.assert_close(by_place[:, 2, 1], center.responses)
    one = tuning_curves(model, stimuli, units=(1, 4, 2))
    torch.testing.assert_close(by_place[1, 4, 2], one.responses[0])
    torch.testing.assert_close(tuning_curves(model, stimuli, units=1).responses[0],
                               center.responses[1])  # fmt: skip
    flat = tuning_curves(lambda x: model(x).flatten(2), stimuli, dtype=torch.double)
    assert flat.unit_shape == (2, 15)
    torch.testing.assert_close(flat.responses, everywhere.responses)


def test_tables_have_a_row_per_unit():
    curves = tuning_curves(Simple(30.0), GratingSet(25, frequencies_cpp=(0.1, 0.2)), units="map")
    table = curves.to_dict()
    assert {len(column) for column in table.values()} == {50}
    assert table["unit"][:6] == [[0, 0, i] for i in range(5)] + [[0, 1, 0]]
    assert table["preferred_orientation_deg"][0] == pytest.approx(30, abs=1)
    pandas = pytest.importorskip("pandas")
    frame = curves.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["modulation"].median() > 1


def test_progress_and_dtype(capsys):
    model = Linear(30.0)
    curves = tuning_curves(model, GratingSet(21, (0,), (0.1,)), progress=True)
    assert "grating 8/8" in capsys.readouterr().err
    assert curves.responses.dtype == torch.float64
    single = tuning_curves(model.float(), GratingSet(21, (0,), (0.1,)))
    assert single.responses.dtype == torch.float32
    assert capsys.readouterr().err == ""


def test_what_cannot_be_measured_is_refused():
    model, stimuli = Linear(30.0), GratingSet(25, (0, 45), (0.1,))
    with pytest.raises(InputError, match=r"of shape \(2, 5, 5\), got \(2, 0, 0\)"):
        tuning_curves(model, stimuli, units=(2, 0, 0))
    with pytest.raises(InputError, match="batch_size"):
        tuning_curves(model, stimuli, batch_size=0)
    with pytest.raises(ShapeError, match=r"probes\.readout"):
        tuning_curves(lambda x: x.mean((1, 2, 3)), stimuli)
    with pytest.raises(InputError, match="real responses"):
        tuning_curves(torch.fft.fft2, stimuli)
    with pytest.raises(InputError, match="frequency_cpp"):
        tuning_curves(model, GratingSet(25, frequencies_cpp=(0.6,)))
    with pytest.raises(UnknownNameError, match="Did you mean 'orientation'"):
        tuning_curves(model, stimuli).curve("orientaton")
