"""Power spectra of pictures.

    P(f) = |sum_x (x - mean) e^(-2 pi i f x)|^2 / (H W)      white noise of variance s: P = s
    radial average over rings |f| of one frequency step, 1 / min(H, W), up to 0.5 cycles/px

The mean is taken off, channels are averaged, and the edges are left as they are: a picture whose
opposite edges differ has power along the axes that is not of its content. ``window`` takes it off
with a Hann window, whose power is divided out.

Axes    C channel | H W rows down, columns right | f cycles per pixel, (vertical, horizontal)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.plot.images import as_picture
from calcarine.plot.style import FAINT, INK, SERIES, heading, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["power_spectrum", "radial_power", "spectral_power"]


def power_spectrum(
    images: Float[Tensor, "N C H W"] | Sequence[Tensor],
    labels: Sequence[str] | None = None,
    *,
    kind: Literal["radial", "plane"] = "radial",
    window: bool = False,
    title: str = "",
) -> Figure:
    """Show the power spectra of pictures.

    Args:
        images: A batch, or pictures of any sizes with axes (H, W), (C, H, W) or (1, C, H, W).
        labels: One per picture.
        kind: ``"radial"``, averaged over orientations, as curves on logarithmic axes, or
            ``"plane"``, the logarithm of power over both frequencies, zero in the centre.
        window: Take the effect of the edges off with a Hann window.
        title: Heading of the whole figure.

    Raises:
        InputError: If there is no picture, labels do not fit, or there is no such kind.
        ShapeError: If something is no picture, or one is too small to have a spectrum.
        NonFiniteError: If a picture holds NaN or infinity.
    """
    pictures = [as_picture(image, index) for index, image in enumerate(images)]
    if not pictures or (labels is not None and len(labels) != len(pictures)):
        raise InputError(
            "power_spectrum expected at least one picture and one label per picture, got "
            f"{len(pictures)} pictures and {len(labels or ())} labels."
        )
    if kind not in ("radial", "plane"):
        raise InputError(f"power_spectrum expected kind 'radial' or 'plane', got {kind!r}.")
    names = list(labels) if labels is not None else [""] * len(pictures)
    if kind == "plane":
        return _planes(pictures, names, window, title)
    return _curves(pictures, names, window, title)


def spectral_power(
    picture: Float[Tensor, "C H W"], *, window: bool = False
) -> Float[Tensor, "H W"]:
    """Return the power at every frequency, in the order of :func:`torch.fft.fftfreq`."""
    values = picture - picture.mean(dim=(-2, -1), keepdim=True)
    if window:
        sides = [_hann(n, like=picture) for n in picture.shape[-2:]]
        weight = sides[0][:, None] * sides[1]
        values = values * weight / weight.square().mean().sqrt()
    return torch.fft.fft2(values, norm="ortho").abs().square().mean(dim=0)


def _hann(length: int, like: Tensor) -> Float[Tensor, " N"]:
    return torch.hann_window(length, periodic=True, dtype=like.dtype, device=like.device)


def radial_power(
    picture: Float[Tensor, "C H W"], *, window: bool = False
) -> tuple[Float[Tensor, " R"], Float[Tensor, " R"]]:
    """Return frequencies in cycles per pixel and the mean power on the ring around each.

    Raises:
        InputError: If the picture is smaller than 4 x 4 px.
    """
    height, width = picture.shape[-2:]
    if min(height, width) < 4:
        raise InputError(
            f"A spectrum expected a picture of at least 4 x 4 px, got {height} x {width}."
        )
    power = spectral_power(picture, window=window)
    rows, columns = (
        torch.fft.fftfreq(n, dtype=power.dtype, device=power.device) for n in power.shape
    )
    steps = (rows[:, None].square() + columns.square()).sqrt() * min(height, width)
    ring = steps.round().long().flatten()
    rings = min(height, width) // 2
    count = torch.zeros(int(ring.max()) + 1, dtype=power.dtype, device=power.device)
    total = torch.zeros_like(count).index_add_(0, ring, power.flatten())
    count.index_add_(0, ring, torch.ones_like(power).flatten())
    frequency = torch.arange(1, rings + 1, dtype=power.dtype, device=power.device)
    return frequency / min(height, width), (total / count)[1 : rings + 1]


def _curves(pictures: list[Tensor], names: list[str], window: bool, title: str) -> Figure:
    figure, axes = new_figure(1, 1, panel=(5.0, 3.4), title=title)
    ax = axes[0][0]
    ax.set_xscale("log")
    ax.set_yscale("log")
    for index, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        frequency, power = radial_power(picture, window=window)
        shown = power.where(power > 0, torch.full_like(power, math.nan))
        style = ("-", "--", ":")[index // len(SERIES) % 3]
        ax.plot(
            frequency, shown, style, color=SERIES[index % len(SERIES)], linewidth=1.6,
            label=name or None,
        )  # fmt: skip
    ax.set_xlabel("spatial frequency (cycles/px)")
    ax.set_ylabel("power")
    ax.grid(visible=True, color=FAINT, linewidth=0.6)
    ticks = [t for t in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if t >= ax.get_xlim()[0]]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    if any(names):
        legend(ax)
    return figure


def _planes(pictures: list[Tensor], names: list[str], window: bool, title: str) -> Figure:
    logs = []
    for picture in pictures:
        power = torch.fft.fftshift(spectral_power(picture, window=window))
        floor = max(float(power.max()) * 1e-12, 1e-300)
        logs.append(power.clamp(min=floor).log10())
    columns = min(4, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    figure, axes = new_figure(rows, columns, panel=(2.6, 2.6), title=title)
    panels = [ax for row in axes for ax in row]
    high = max(float(p.max()) for p in logs)
    low = max(min(float(p.quantile(0.01)) for p in logs), high - 12)
    for ax, plane, name in zip(panels, logs, names, strict=False):
        edges = (-0.5, 0.5, 0.5, -0.5)  # left, right, bottom, top: rows down
        shown = ax.imshow(plane.numpy(), cmap="viridis", vmin=low, vmax=high, extent=edges)
        ax.set_xticks([-0.5, 0, 0.5])
        ax.set_yticks([-0.5, 0, 0.5])
        heading(ax, name)
    for ax in panels[len(pictures) :]:
        ax.set_axis_off()
    axes[-1][0].set_xlabel("horizontal (cycles/px)")
    axes[-1][0].set_ylabel("vertical (cycles/px)")
    bar = figure.colorbar(shown, ax=panels[: len(pictures)], shrink=0.8, aspect=18, fraction=0.06)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, labelcolor=INK, length=2)
    bar.set_label("log10 power", fontsize=8, color=INK)
    return figure
