"""Figures of eigenvalues and of the modes they stand for."""

import math

import pytest
import torch

from calcarine.errors import InputError, NonFiniteError
from calcarine.plot import eigenvalue_cloud, figure_png, mode_figure
from calcarine.probes.spectrum import step_stability


@pytest.fixture(scope="module")
def values():
    draw = torch.Generator().manual_seed(0)
    return torch.linalg.eigvals(torch.randn(80, 80, generator=draw, dtype=torch.float64) / 80**0.5)


@pytest.fixture(scope="module")
def found():
    """Three modes that decay, one that grows, and a pair that turns."""
    diagonal = torch.tensor([1.2, 0.9, 0.5], dtype=torch.float64)
    turn = torch.tensor([[0.8, 0.3], [-0.3, 0.8]], dtype=torch.float64)
    return {
        "mixed": step_stability(lambda r: diagonal * r, diagonal, 2.0, k=3),
        "spiral": step_stability(lambda r: r @ turn, turn[0], 2.0, k=2),
    }


def scattered(ax):
    offsets = [torch.tensor(c.get_offsets().tolist()) for c in ax.collections]
    return [xy for xy in offsets if len(xy)]


@pytest.mark.parametrize("panels", [1, 2, 6])
def test_the_cloud_shows_every_eigenvalue_beside_the_unit_circle(values, panels):
    spectra = {f"area {k}": values / (k + 1) for k in range(panels)}
    figure = eigenvalue_cloud(spectra, leading=2, title="Recurrence")
    shown = [ax for ax in figure.axes if ax.axison]
    assert len(shown) == panels
    assert len({ax.get_xlim() for ax in shown}) == 1
    for ax, (name, some) in zip(shown, spectra.items(), strict=True):
        assert ax.get_aspect() == 1
        assert ax.get_title().startswith(name)
        assert f"{float(some.abs().max()):.3f}" in ax.get_title()
        every, leading = scattered(ax)
        assert every.shape == (80, 2)
        assert every[:, 1].tolist() == pytest.approx(some.imag.tolist(), abs=1e-6)
        assert leading.norm(dim=1).max() == pytest.approx(float(some.abs().max()))
        circle = next(line for line in ax.lines if len(line.get_xdata()) > 100)
        x, y = (torch.as_tensor(data) for data in circle.get_data())
        torch.testing.assert_close(x**2 + y**2, torch.ones_like(x))
        assert ax.get_xlim()[0] < -1.05
        assert ax.get_ylim()[1] > 1.05
    assert figure_png(figure)[:4] == b"\x89PNG"


def test_zoom_shows_the_eigenvalues_only(values):
    near = 0.9 + 0.01 * values
    ax = eigenvalue_cloud({"": near}, zoom=True).axes[0]
    assert ax.get_xlim()[0] > 0.85
    assert ax.get_xlim()[1] - ax.get_xlim()[0] < 0.1
    assert ax.get_xlim()[0] < float(near.real.min())
    assert ax.get_xlim()[1] > float(near.real.max())


def test_a_lone_eigenvalue_can_be_zoomed_at():
    ax = eigenvalue_cloud({"": torch.tensor([0.5 + 0j])}, zoom=True).axes[0]
    assert ax.get_xlim()[0] < 0.5 < ax.get_xlim()[1]


def test_modes_stand_at_their_time_constants_and_frequencies(found):
    times, turns = mode_figure(found).axes
    assert times.get_yscale() == "log"
    heights = sorted(torch.cat(scattered(times))[:, 1].tolist())
    taus = [-2 / math.log(m) for m in (0.9, 0.5, abs(0.8 + 0.3j), abs(0.8 + 0.3j))]
    assert heights[:4] == pytest.approx(sorted(taus))
    assert heights[4] > max(taus)  # what grows has no time constant
    hertz = sorted(torch.cat(scattered(turns))[:, 1].tolist())
    assert hertz == pytest.approx([0, 0, 0, *[math.atan2(0.3, 0.8) * 250 / math.pi] * 2])
    labels = [text.get_text() for text in times.get_legend().get_texts()]
    assert labels == ["decays", "grows", "decays and turns"]
    assert [t.get_text() for t in turns.get_xticklabels()] == ["mixed", "spiral"]
    flow = mode_figure({"spiral": found["spiral"]}, steps=False).axes[0]
    assert float(scattered(flow)[0][0, 1]) == pytest.approx(10.0)


def test_bad_input_is_refused(values, found):
    with pytest.raises(InputError, match="at least one eigenvalue"):
        eigenvalue_cloud({})
    with pytest.raises(InputError, match="at least one eigenvalue"):
        eigenvalue_cloud({"a": values, "b": values[:0]})
    with pytest.raises(InputError, match="leading >= 0"):
        eigenvalue_cloud({"a": values}, leading=-1)
    with pytest.raises(NonFiniteError, match="in 'a'"):
        eigenvalue_cloud({"a": values * math.nan})
    with pytest.raises(InputError, match="at least one mode"):
        mode_figure({})
