"""Orientation maps: filter banks with known preferences, silent units, sweeps of other axes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from calcarine.errors import (
    FileFormatError,
    InputError,
    MissingDependencyError,
    NonFiniteError,
    ShapeError,
)
from calcarine.probes import (
    OrientationMap,
    frequency_map,
    ocular_dominance,
    orientation_map,
    preference_map,
    readout,
)
from calcarine.stimuli import Sheet

SIZE = (25, 21)


def gabor(
    size: tuple[int, int], orientation_deg: Tensor, frequency: Tensor, phase: Tensor
) -> Tensor:
    """Gabor filters without response to uniform light, axes (H, W of the map, pixels)."""
    y = torch.arange(size[0], dtype=torch.double)[:, None] - (size[0] - 1) / 2
    x = torch.arange(size[1], dtype=torch.double) - (size[1] - 1) / 2
    o = torch.deg2rad(orientation_deg)[..., None, None]
    u = -x * o.sin() - y * o.cos()
    envelope = torch.exp(-(x**2 + y**2) / (2 * 4.0**2))
    wave = torch.cos(2 * math.pi * frequency[..., None, None] * u - phase[..., None, None])
    kernel = envelope * wave
    kernel = kernel - envelope * (kernel.sum((-2, -1)) / envelope.sum())[..., None, None]
    return kernel.flatten(-2)


class Bank(nn.Module):
    """A map of linear filters, each looking at the whole image."""

    def __init__(self, weights: Tensor, channel_axis: bool = False) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights, False)
        self.channel_axis = channel_axis

    def forward(self, image: Tensor) -> Tensor:
        response = torch.einsum("bp,hwp->bhw", image.flatten(1), self.weights)
        return response[:, None] if self.channel_axis else response


class Rectified(Bank):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).relu()


def bank(shape=(7, 5), kind=Bank, dtype=torch.double, **options) -> tuple[nn.Module, Tensor]:
    """Filters of random preference and phase, and their preferences."""
    draw = torch.Generator().manual_seed(0)
    angles = 180 * torch.rand(shape, generator=draw, dtype=torch.double)
    phases = 6 * torch.rand(shape, generator=draw, dtype=torch.double)
    weights = gabor(SIZE, angles, torch.full(shape, 0.1).double(), phases)
    return kind(weights.to(dtype), **options), angles


def apart(one: Tensor, other: Tensor) -> Tensor:
    difference = (one - other).remainder(180)
    return torch.minimum(difference, 180 - difference)


@pytest.mark.parametrize("combine", ["peak", "amplitude"])
@pytest.mark.parametrize("kind", [Bank, Rectified])
@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_preferences_of_a_filter_bank(combine, kind, dtype):
    """Known within a degree; the image is not square, nor the map."""
    model, angles = bank(kind=kind, dtype=dtype)
    found = orientation_map(model, SIZE, combine=combine)
    assert found.curves.shape == (7, 5, 24)
    assert apart(found.preference_deg, angles).max() < 1.0
    assert (found.selectivity > 0.4).all()
    assert found.responsive.all()
    assert torch.allclose(found.circular_variance, 1 - found.selectivity)
    assert ((found.half_width_deg > 5) & (found.half_width_deg < 60)).all()


def test_amplitude_is_the_transfer_function():
    """A linear unit follows the phase with half the Michelson contrast times |H|."""
    model, _ = bank()
    found = orientation_map(model, SIZE, combine="amplitude", contrast=0.6, frequency_cpp=0.13)
    y = torch.arange(SIZE[0], dtype=torch.double)[:, None]
    x = torch.arange(SIZE[1], dtype=torch.double)
    for k in (0, 5, 17):
        o = math.radians(7.5 * k)
        u = (-x * math.sin(o) - y * math.cos(o)).flatten()
        gain = (model.weights * torch.exp(-2j * math.pi * 0.13 * u)).sum(-1).abs()
        assert torch.allclose(found.curves[..., k], 0.5 * 0.6 * gain, atol=1e-10)


def test_the_mean_of_a_linear_unit_says_nothing_and_of_a_rectified_one_much():
    linear, _ = bank()
    assert not orientation_map(linear, SIZE, combine="mean").responsive.any()
    rectified, angles = bank(kind=Rectified)
    found = orientation_map(rectified, SIZE, combine="mean")
    assert apart(found.preference_deg, angles).max() < 1.0


@pytest.mark.parametrize("batch_size", [1, 7, 12, 100, 1000])
def test_batches_change_nothing_and_are_never_exceeded(batch_size):
    model, _ = bank()
    sizes = []

    def watched(image: Tensor) -> Tensor:
        sizes.append(len(image))
        return model(image)

    whole = orientation_map(model, SIZE, orientations=8, phases=5, dtype=torch.double)
    found = orientation_map(
        watched, SIZE, orientations=8, phases=5, batch_size=batch_size, dtype=torch.double,
        keep_responses=True,
    )  # fmt: skip
    assert torch.allclose(found.curves, whole.curves, atol=1e-12)
    assert max(sizes) == min(batch_size, 40)
    assert len(sizes) == math.ceil(40 / batch_size)
    assert sum(sizes) == 40
    assert whole.responses is None
    assert found.responses.shape == (8, 5, 7, 5)
    assert torch.equal(found.responses.amax(1).movedim(0, -1), found.curves)


def test_turning_the_filters_turns_the_map():
    angles = 180 * torch.rand(6, 9, generator=torch.Generator().manual_seed(2)).double()
    one, other = (
        orientation_map(
            Bank(gabor((25, 25), a, torch.full((6, 9), 0.1).double(), torch.zeros(6, 9).double())),
            25, combine="amplitude",
        )
        for a in (angles, angles + 37.5)
    )  # fmt: skip
    assert apart(other.preference_deg, one.preference_deg + 37.5).max() < 0.5
    turned = OrientationMap(one.orientations_deg, one.curves.roll(5, -1), 0.1, 12)
    assert apart(turned.preference_deg, one.preference_deg + 37.5).max() < 1e-6
    assert torch.allclose(turned.selectivity, one.selectivity)
    assert one.stability(turned) == pytest.approx(1 - 4 * 37.5 / 180)


def test_silent_and_indifferent_units_have_no_preference():
    """Selectivity 0, nothing is NaN, and no measure takes their placeholder for a preference."""
    model, _ = bank((12, 10))
    model.weights.data[3:7, 2:6] = 0
    model.weights.data[0, 0] = 1.0 / model.weights.shape[-1]

    class Constant(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            response = model(image)
            response[:, 8, 8] = 3.0
            return response

    found = orientation_map(Constant(), SIZE, dtype=torch.double)
    silent = torch.zeros(12, 10, dtype=torch.bool)
    silent[3:7, 2:6] = silent[8, 8] = True
    silent[0, 0] = not found.responsive[0, 0]
    assert torch.equal(~found.responsive, silent)
    assert (found.selectivity[silent] == 0).all()
    assert (found.preference_deg[silent] == 0).all()
    assert (found.half_width_deg[silent] == 90).all()
    for values in found.to_arrays().values():
        assert np.isfinite(values[1]).all()
    assert found.histogram()[1].sum() == pytest.approx(1)
    assert found.stability(found) == pytest.approx(1 - silent.double().mean().item())
    nothing = orientation_map(lambda x: torch.zeros(len(x), 9, 9), 16)
    assert not nothing.responsive.any()
    assert nothing.stability(nothing) == 0
    assert nothing.smoothness() == 0
    assert len(nothing.pinwheels()) == 0
    assert nothing.hypercolumn().status == "no_peak"
    assert math.isnan(nothing.pinwheel_density())
    assert nothing.histogram()[1].sum() == 0


def test_a_tuning_curve_of_known_width():
    """cos^2 falls to 1 / sqrt 2 where cos w = 2^(-1/4); (1 + cos 2o) / 2 has resultant 1/2."""
    angles = torch.arange(24).double() * 7.5
    curve = torch.deg2rad(angles - 60).cos() ** 2
    found = OrientationMap(angles, curve.expand(2, 3, 24), 0.1, 12)
    assert torch.allclose(found.preference_deg, torch.tensor(60.0).double())
    assert torch.allclose(found.selectivity, torch.tensor(0.5).double())
    assert torch.allclose(found.peak, torch.tensor(1.0).double())
    expected = math.degrees(math.acos(2**-0.25))
    assert found.half_width_deg[1, 2].item() == pytest.approx(expected, abs=0.2)


def test_frequency_comes_in_cycles_per_pixel_or_per_side():
    model, _ = bank()
    sheet = Sheet(24, (25 / 48, 21 / 48))
    assert sheet.size == SIZE
    by_default = orientation_map(model, sheet, orientations=4)
    assert by_default.frequency_cpp == pytest.approx(0.1)
    assert orientation_map(model, SIZE, orientations=4).frequency_cpp == 0.1
    faster = orientation_map(model, sheet, orientations=4, cycles_per_side=4.8)
    assert faster.frequency_cpp == pytest.approx(0.2)
    same = orientation_map(model, SIZE, orientations=4, frequency_cpp=0.2)
    assert torch.allclose(faster.curves, same.curves)


def test_one_channel_of_several_and_any_layer():
    model, angles = bank(channel_axis=True)
    squeezed = orientation_map(model, SIZE)
    assert apart(squeezed.preference_deg, angles).max() < 1.0
    two = orientation_map(
        lambda x: model(x).repeat(1, 2, 1, 1), SIZE, channel=1, dtype=torch.double
    )
    assert torch.allclose(two.curves, squeezed.curves)
    pair = nn.Sequential(model, nn.Softplus()).eval()
    inner = orientation_map(readout(pair, "0"), SIZE)
    assert torch.allclose(inner.curves, squeezed.curves)
    colour = nn.Conv2d(3, 1, 5, bias=False).requires_grad_(False)
    assert orientation_map(colour, 16, channels=3).curves.shape == (12, 12, 24)


def test_tables_and_files(tmp_path):
    model, _ = bank()
    found = orientation_map(model, SIZE, orientations=8, phases=4, wrap=True, keep_responses=True)
    table = found.to_dict()
    assert len(table["row"]) == 35
    assert (table["row"][7], table["column"][7]) == (1, 2)
    assert table["preference_deg"][7] == found.preference_deg[1, 2].item()
    assert found.to_arrays()["curves"][0] == ("row", "column", "orientation_deg")
    loaded = OrientationMap.load(found.save(tmp_path / "map.safetensors"))
    assert torch.equal(loaded.curves, found.curves)
    assert torch.equal(loaded.responses, found.responses)
    assert (loaded.phases, loaded.wrap, loaded.combine) == (4, True, "peak")
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match="damaged"):
        OrientationMap.load(tmp_path / "no.safetensors")


def test_the_table_is_a_data_frame_where_pandas_is(monkeypatch):
    found = orientation_map(bank()[0], SIZE, orientations=4, phases=2)
    pandas = pytest.importorskip("pandas")
    frame = found.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["selectivity"]) == found.selectivity.flatten().tolist()
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="to_dataframe needs the package 'pandas'"):
        found.to_dataframe()


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (
            lambda x: x.mean((1, 2, 3)),
            {},
            ShapeError,
            r"\(batch, height, width\).*got shape \(64,\)",
        ),
        (lambda x: x.repeat(1, 3, 1, 1), {}, ShapeError, "channel=k picks one"),
        (lambda x: x, {"channel": 4}, ShapeError, "with a channel 4"),
        (lambda x: x[:3], {}, ShapeError, "64 in this batch"),
        (lambda x: x / (x - x), {}, NonFiniteError, "NaN or infinite"),
        (lambda x: torch.complex(x, x), {}, ShapeError, "real responses"),
        (lambda x: [x], {}, ShapeError, "got list"),
        (lambda x: x, {"orientations": 2}, InputError, "at least 3 orientations"),
        (lambda x: x, {"phases": 0}, InputError, "1 phase"),
        (lambda x: x, {"combine": "max"}, InputError, "'peak', 'mean' or 'amplitude'"),
        (lambda x: x, {"batch_size": 0}, InputError, "batch_size >= 1"),
        (lambda x: x, {"frequency_cpp": 0.7}, InputError, "alias"),
        (lambda x: x, {"cycles_per_side": 2.4}, InputError, "calcarine.stimuli.Sheet"),
        (lambda x: x, {"cycles_per_side": 2.4, "frequency_cpp": 0.1}, InputError, "not both"),
    ],
)
def test_what_cannot_be_measured_is_refused(model, options, error, message):
    with pytest.raises(error, match=message):
        orientation_map(model, 16, **options)


def test_spatial_frequency_preference():
    """Filters an octave apart; a Gaussian window blurs, so within an eighth of an octave."""
    frequencies = torch.tensor([[0.06, 0.09, 0.12], [0.15, 0.2, 0.25]]).double()
    angles = torch.tensor([[10.0, 50.0, 90.0], [120.0, 150.0, 170.0]]).double()
    model = Bank(gabor((41, 37), angles, frequencies, torch.zeros(2, 3).double()))
    shown = [0.03 * 2 ** (k / 4) for k in range(17)]
    found = frequency_map(model, (41, 37), shown, orientations=18, combine="amplitude")
    assert ((found.best / frequencies).log2().abs() <= 0.26).all()
    assert torch.equal(found.preference.flatten().argsort(), torch.arange(6))
    assert found.responsive.all()
    assert ((found.selectivity > 0.5) & (found.selectivity <= 1)).all()


def test_ocular_dominance():
    """L : R weights give R / (L + R), and |L - R| / (L + R)."""
    weights, _ = bank((4, 6))
    share = torch.linspace(0, 1, 24, dtype=torch.double).reshape(4, 6)

    class TwoEyes(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            left, right = (weights(image[:, k : k + 1]) for k in (0, 1))
            return (1 - share) * left + share * right

    found = ocular_dominance(TwoEyes(), SIZE, dtype=torch.double, combine="amplitude")
    assert torch.allclose(found.preference, share)
    assert torch.allclose(found.selectivity, (1 - 2 * share).abs(), atol=1e-9)
    assert found.responsive.sum() == 24
    binocular = ocular_dominance(lambda x: x.mean(1), 9, combine="amplitude")
    assert torch.allclose(binocular.preference, torch.tensor(0.5).double())
    assert (binocular.selectivity < 1e-6).all()


def test_any_circular_parameter():
    """Direction over 360 degrees; a unit between two samples is found between them."""
    wanted = torch.tensor([[10.0, 100.0, 359.0]]).double()

    def model(image: Tensor) -> Tensor:
        angle = image.mean((1, 2, 3))[:, None, None]
        return torch.exp(2 * torch.deg2rad(angle - wanted).cos())

    def stimulus(value: float) -> Tensor:
        return torch.full((2, 1, 3, 3), value, dtype=torch.double)

    values = [30.0 * k for k in range(12)]
    found = preference_map(model, stimulus, values, parameter="direction_deg", period=360.0)
    assert torch.allclose(found.preference, wanted, atol=0.01)
    silent = preference_map(lambda x: 0 * x[:, 0], stimulus, values)
    assert not silent.responsive.any()
    assert (silent.selectivity == 0).all()
    assert silent.preference.isfinite().all()


def test_impossible_sweeps_are_refused():
    def stimulus(value: float) -> Tensor:
        return torch.full((2, 1, 3, 3), value)

    with pytest.raises(InputError, match="no two alike"):
        preference_map(lambda x: x, stimulus, [1.0, 1.0])
    with pytest.raises(InputError, match="period above 0"):
        preference_map(lambda x: x, stimulus, [0.0, 1.0], period=-2.0)
    with pytest.raises(InputError, match="logarithmic axis"):
        preference_map(lambda x: x, stimulus, [0.0, 1.0], logarithmic=True)
    with pytest.raises(ShapeError, match="expected 2 images"):
        preference_map(lambda x: x, lambda v: stimulus(v)[: 2 - int(v)], [0.0, 1.0])
    found = preference_map(lambda x: x, stimulus, [0.0, 1.0])
    with pytest.raises(InputError, match="no vector sum"):
        _ = found.vector
