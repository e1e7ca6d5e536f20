"""Eigenvalues in the complex plane, and the time constants and frequencies they imply.

    eigenvalue_cloud    one panel per spectrum on equal axes, with the unit circle
    mode_figure         time constants on a logarithmic axis and frequencies, one column per area

A discrete step, or a linear recurrence, is unstable where an eigenvalue lies outside the unit
circle; the circle is what the cloud is read against.

Axes    real, imaginary part | time constants in ms, frequencies in Hz
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Complex
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError
from calcarine.plot.style import FAINT, GREY, SERIES, heading, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from calcarine.probes.spectrum import Stability

__all__ = ["eigenvalue_cloud", "mode_figure"]

_COLUMNS = 4


def eigenvalue_cloud(
    spectra: Mapping[str, Complex[Tensor, " k"]],
    *,
    leading: int = 2,
    zoom: bool = False,
    title: str = "",
) -> Figure:
    """Show eigenvalues in the complex plane, side by side on the same axes.

    Args:
        spectra: Name to eigenvalues, of areas or of before and after.
        leading: How many of the largest modulus are marked in each panel; both of a pair.
        zoom: Show the surroundings of the eigenvalues, and of the circle what falls into them,
            instead of the whole circle.
        title: Heading of the whole figure.

    Raises:
        InputError: If there is no eigenvalue, or ``leading`` is negative.
        NonFiniteError: If one is not finite.
    """
    if not spectra or any(values.numel() == 0 for values in spectra.values()) or leading < 0:
        raise InputError(
            "eigenvalue_cloud expected at least one eigenvalue in every spectrum and leading >= 0, "
            f"got { {name: values.numel() for name, values in spectra.items()} } and {leading}."
        )
    for name, values in spectra.items():
        if not values.isfinite().all():
            raise NonFiniteError(f"eigenvalue_cloud got a NaN or infinite eigenvalue in {name!r}.")
    columns = min(_COLUMNS, len(spectra))
    rows = math.ceil(len(spectra) / columns)
    figure, axes = new_figure(rows, columns, panel=(2.8 if columns > 1 else 3.8,) * 2, title=title)
    panels = [ax for row in axes for ax in row]
    (left, right), (low, high) = _limits(spectra, zoom)
    for index, (ax, (name, values)) in enumerate(zip(panels, spectra.items(), strict=False)):
        _draw_cloud(ax, values.detach().cpu(), leading)
        heading(ax, f"{name} (largest modulus {float(values.abs().max()):.3f})".lstrip())
        ax.set_aspect("equal")
        ax.set_xlim(left, right)
        ax.set_ylim(low, high)
        if index % columns == 0:
            ax.set_ylabel("imaginary part")
        if index + columns >= len(spectra):
            ax.set_xlabel("real part")
    for ax in panels[len(spectra) :]:
        ax.set_axis_off()
    return figure


def _limits(spectra: Mapping[str, Tensor], zoom: bool) -> tuple[tuple[float, float], ...]:
    """Return the limits of both axes, which all panels share."""
    every = torch.cat([values.detach().cpu().flatten() for values in spectra.values()])
    if not zoom:
        far = 1.12 * max(1.0, float(every.real.abs().max()), float(every.imag.abs().max()))
        return (-far, far), (-far, far)
    middles = [float(x.max() + x.min()) / 2 for x in (every.real, every.imag)]
    half = 0.65 * max(float(x.max() - x.min()) for x in (every.real, every.imag))
    half = max(half, 0.02 * max(float(every.abs().max()), 1e-9))
    return tuple((middle - half, middle + half) for middle in middles)


def _draw_cloud(ax: Axes, values: Tensor, leading: int) -> None:
    angle = torch.linspace(0, 2 * math.pi, 721)
    ax.axhline(0, color=FAINT, linewidth=0.7, zorder=0)
    ax.axvline(0, color=FAINT, linewidth=0.7, zorder=0)
    ax.plot(angle.cos(), angle.sin(), color=GREY, linewidth=0.9, linestyle="--", zorder=1)
    size = 14 if len(values) <= 200 else 5
    ax.scatter(values.real, values.imag, s=size, color=SERIES[0], alpha=0.7, linewidths=0)
    moduli = values.abs()
    least = moduli.topk(min(leading, len(values))).values.min() if leading else math.inf
    first = moduli >= least * (1 - 1e-6)  # both of a conjugate pair
    ax.scatter(
        values.real[first], values.imag[first], s=55, facecolors="none",
        edgecolors=SERIES[1], linewidths=1.2, clip_on=False,
    )  # fmt: skip


def mode_figure(found: Mapping[str, Stability], *, steps: bool = True, title: str = "") -> Figure:
    """Show time constants and frequencies of the modes of several areas.

    Modes that grow have no time constant; they stand in a row of their own at the top.

    Args:
        found: Name of the area to its modes.
        steps: Take those of the simulated step instead of those of the flow it approximates.
        title: Heading of the whole figure.

    Raises:
        InputError: If there is none.
    """
    if not found or any(len(each.step_values) == 0 for each in found.values()):
        raise InputError("mode_figure expected at least one mode for every name, got none.")
    wide = max(3.4, 0.7 * len(found) + 1.4)
    figure, axes = new_figure(1, 2, panel=(wide, 3.0), title=title)
    times, turns = axes[0]
    every = [tau for each in found.values() for tau in _taus(each, steps)]
    shown = [tau for tau in every if 0 < tau < math.inf] or [10.0]
    low, high = min(shown) / 1.5, max(shown) * 1.5
    ceiling = high * (high / low) ** 0.1
    times.set_yscale("log")
    times.set_ylim(low, ceiling * 1.3 if len(shown) < len(every) else high)
    used: set[str] = set()
    for place, each in enumerate(found.values()):
        used |= _draw_modes((times, turns), place, each, steps, ceiling)
    _plain_ticks(times, low, high)
    times.set_ylabel("time constant (ms)")
    turns.set_ylabel("frequency (Hz)")
    fastest = max(max(_hertz(each, steps)) for each in found.values())
    turns.set_ylim(0, 1.08 * fastest if fastest > 1e-6 else 1.0)
    _name_areas(times, turns, names=list(found))
    for kind in sorted(used):
        marker, color, name = _KINDS[kind]
        times.scatter([], [], marker=marker, color=color, s=22, label=name)
    legend(times, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, columnspacing=1.0)
    return figure


def _name_areas(*axes: Axes, names: list[str]) -> None:
    for ax in axes:
        ax.set_xticks(range(len(names)), names, rotation=30 if len(names) > 4 else 0)
        ax.set_xlim(-0.6, len(names) - 0.4)
        ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.6)


_KINDS = {
    "decays": ("o", SERIES[0], "decays"),
    "turns": ("^", SERIES[2], "decays and turns"),
    "grows": ("x", SERIES[1], "grows"),
}


def _taus(found: Stability, steps: bool) -> list[float]:
    taus: list[float] = (
        found.step_time_constants_ms if steps else found.time_constants_ms
    ).tolist()
    return taus


def _hertz(found: Stability, steps: bool) -> list[float]:
    hertz = found.step_frequencies_hz if steps else found.frequencies_hz
    return [float(frequency) for frequency in hertz]


def _kinds(found: Stability, steps: bool) -> list[str]:
    """Return of every mode whether it decays, decays and turns, or grows."""
    return [
        "grows" if tau < 0 or math.isinf(tau) else "turns" if frequency > 0 else "decays"
        for tau, frequency in zip(_taus(found, steps), _hertz(found, steps), strict=True)
    ]


def _draw_modes(
    axes: tuple[Axes, Axes], place: int, found: Stability, steps: bool, ceiling: float
) -> set[str]:
    """Put the modes of one area into both panels, side by side, and return their kinds."""
    taus, hertz, kinds = _taus(found, steps), _hertz(found, steps), _kinds(found, steps)
    places = [place + 0.5 * (n / max(len(taus) - 1, 1) - 0.5) for n in range(len(taus))]
    for kind in set(kinds):
        chosen = [n for n, each in enumerate(kinds) if each == kind]
        x = [places[n] for n in chosen]
        y = [ceiling if kind == "grows" else taus[n] for n in chosen]
        look: dict[str, Any] = {
            "marker": _KINDS[kind][0],
            "color": _KINDS[kind][1],
            "s": 22,
            "zorder": 2,
        }
        axes[0].scatter(x, y, **look)
        axes[1].scatter(x, [hertz[n] for n in chosen], clip_on=False, **look)
    return set(kinds)


def _plain_ticks(ax: Axes, low: float, high: float) -> None:
    """Label a logarithmic axis by plain numbers."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), [1 + k / 10 for k in range(90)]):
        marks = [m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= high]
        if len(marks) >= 3:
            break
    marks = marks[:: -(-len(marks) // 8)]
    ax.set_yticks(marks, [f"{mark:g}" for mark in marks])
    ax.minorticks_off()
