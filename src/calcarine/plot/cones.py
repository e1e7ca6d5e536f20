"""Cones: which sit where, what a cortex learned about them, and what they respond to.

    accuracy    = share of the cells of a type that the read-out calls by that type
    chance      = share of the most frequent type: what calling all cells alike would give

Only cells with one main pigment (more than half of it) have a type; mixed cells, as gene therapy
makes them, are shown in mixed colours and not counted.

Axes    T cone types L, M, S (, Q) | K latent | H W lattice of cells | N wavelengths
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.plot.style import (
    CONE_COLORS,
    CONE_MARKERS,
    FAINT,
    GREY,
    INK,
    cone_names,
    heading,
    legend,
    new_figure,
    plain_panel,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["cone_fundamentals", "cone_identities", "identity_accuracy", "mosaic_picture"]

_MOST_POINTS = 3000


def mosaic_picture(mosaic: Float[Tensor, "T H W"]) -> Float[Tensor, "3 H W"]:
    """Paint every cell in the colour of its pigment, mixtures in mixed colours.

    Args:
        mosaic: Share of each pigment in each cell; negative shares count as none.

    Raises:
        ShapeError: If there are not one to four planes.
    """
    if mosaic.ndim != 3 or not 1 <= mosaic.shape[0] <= 4:
        raise ShapeError(
            "Expected a mosaic with axes (type, height, width) and planes L, M, S (, Q), got "
            f"shape {tuple(mosaic.shape)}."
        )
    share = mosaic.detach().cpu().double().clamp(min=0)
    share = share / share.sum(dim=0).clamp(min=1e-6)
    hexes = [CONE_COLORS[name][1:] for name in cone_names(mosaic.shape[0])]
    colors = [[int(h[i : i + 2], 16) / 255 for i in (0, 2, 4)] for h in hexes]
    return torch.einsum("thw,tc->chw", share, torch.tensor(colors, dtype=torch.double))


def identity_accuracy(
    true_mosaic: Float[Tensor, "T H W"], shown_mosaic: Float[Tensor, "T H W"], *, border: int = 0
) -> dict[str, float]:
    """Return how well a read-out names the types of cells.

    Args:
        true_mosaic: Share of each pigment in each cell.
        shown_mosaic: What the read-out makes of the cells.
        border: Cells left out at every edge.

    Returns:
        Accuracy by type, of the types that there are; ``"all"`` for all cells, and ``"chance"``,
        what calling all cells alike would give.

    Raises:
        ShapeError: If the two do not fit, or the border leaves nothing.
        InputError: If no cell has one main pigment.
    """
    true, shown = _inner(true_mosaic, border), _inner(shown_mosaic, border)
    if true.shape != shown.shape or true.numel() == 0:
        raise ShapeError(
            "identity_accuracy expected two mosaics of one size and a border below half of it, got "
            f"shapes {tuple(true_mosaic.shape)}, {tuple(shown_mosaic.shape)}, border {border}."
        )
    share, kind = true.max(dim=0)
    counted = share > 0.5
    if not counted.any():
        raise InputError("identity_accuracy expected cells with one main pigment, all are mixed.")
    right = (shown.argmax(dim=0) == kind)[counted].double()
    kind = kind[counted]
    counts = torch.bincount(kind, minlength=len(true))
    result = {
        name: float(right[kind == index].mean())
        for index, name in enumerate(cone_names(len(true)))
        if counts[index] > 0
    }
    return {**result, "all": float(right.mean()), "chance": float(counts.max() / counts.sum())}


def _inner(mosaic: Tensor, border: int) -> Tensor:
    height, width = mosaic.shape[-2:]
    if border < 0:
        raise InputError(f"Expected border >= 0, got {border}.")
    return mosaic[..., border : height - border, border : width - border].detach().cpu().double()


def cone_identities(
    true_mosaic: Float[Tensor, "T H W"],
    shown_mosaic: Float[Tensor, "T H W"],
    vectors: Float[Tensor, "K H W"],
    *,
    border: int = 0,
    title: str = "",
) -> Figure:
    """Show what a cortex learned about its cones beside what they are.

    True mosaic, what the mosaic scope reads out, its accuracy by type, and the learned identity
    vectors on their first three principal components.

    Args:
        true_mosaic: Share of each pigment in each cell.
        shown_mosaic: What the mosaic scope reads out, in the same order of types.
        vectors: Learned identity of every cell.
        border: Cells at every edge that are neither shown nor counted.
        title: Heading of the whole figure.

    Raises:
        ShapeError: If mosaics and vectors do not fit.
        NonFiniteError: If something holds NaN or infinity.
    """
    if vectors.ndim != 3 or vectors.shape[1:] != true_mosaic.shape[1:]:
        raise ShapeError(
            "cone_identities expected vectors with axes (latent, height, width) for the cells of "
            f"the mosaic, got shapes {tuple(vectors.shape)} and {tuple(true_mosaic.shape)}."
        )
    if not (shown_mosaic.isfinite().all() and vectors.isfinite().all()):
        raise NonFiniteError("cone_identities expected finite values, got NaN or infinity.")
    accuracy = identity_accuracy(true_mosaic, shown_mosaic, border=border)
    figure, axes = new_figure(2, 3, panel=(3.1, 3.0), title=title)
    truth, shown, bars = axes[0]
    for ax, mosaic, name in (
        (truth, true_mosaic, "the cones"),
        (shown, shown_mosaic, "what the cortex knows of them"),
    ):
        plain_panel(ax)
        picture = mosaic_picture(_inner(mosaic, border))
        ax.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
        heading(ax, name)
        ax.set_xlabel(f"{picture.shape[-1]} × {picture.shape[-2]} cells", fontsize=8)
    _draw_accuracy(bars, accuracy)
    _draw_vectors(axes[1], _inner(true_mosaic, border), _inner(vectors, border))
    return figure


def _draw_accuracy(ax: Axes, accuracy: dict[str, float]) -> None:
    names = [name for name in accuracy if name != "chance"]
    colors = [CONE_COLORS.get(name, GREY) for name in names]
    values = [100 * accuracy[name] for name in names]
    ax.bar(names, values, color=colors, width=0.65)
    for index, value in enumerate(values):
        ax.annotate(
            f"{value:.0f}", (index, value), xytext=(0, 2), textcoords="offset points",
            ha="center", fontsize=8, color=INK,
        )  # fmt: skip
    ax.axhline(100 * accuracy["chance"], color=INK, linewidth=0.9, linestyle=":")
    heading(ax, "cells that are read out correctly")
    ax.annotate(
        "all\nalike", (1.01, 100 * accuracy["chance"]), xycoords=("axes fraction", "data"),
        ha="left", va="center", fontsize=7.5, color=INK,
    )  # fmt: skip
    ax.set_ylim(0, 112)
    ax.set_yticks(range(0, 101, 25))
    ax.set_ylabel("cells (%)")
    ax.set_xlabel("type of cone")


def _draw_vectors(axes: list[Axes], mosaic: Tensor, vectors: Tensor) -> None:
    """Scatter the identities on pairs of their principal components, one mark per cell."""
    points = vectors.flatten(1).T
    points = points - points.mean(dim=0)
    directions = torch.linalg.svd(points, full_matrices=False)[2][:3]
    scores = points @ directions.T
    total = points.square().sum()
    parts = (scores.square().sum(dim=0) / total.clamp(min=1e-30)).tolist()
    share, kind = mosaic.flatten(1).max(dim=0)
    kind = torch.where(share > 0.5, kind, -1)
    every = max(1, -(-len(points) // _MOST_POINTS))
    scores, kind = scores[::every], kind[::every]
    pairs = [(0, 1), (0, 2), (1, 2)]
    for ax, (first, second) in zip(axes, pairs, strict=True):
        if total < 1e-12 or max(first, second) >= scores.shape[1]:
            plain_panel(ax)
            text = "all cells have\nthe same identity" if total < 1e-12 else "no such component"
            ax.text(
                0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, color=GREY,
                fontsize=9,
            )  # fmt: skip
            continue
        _scatter(ax, scores[:, first], scores[:, second], kind, mosaic.shape[0])
        ax.locator_params(nbins=4)
        ax.set_xlabel(f"component {first + 1} ({100 * parts[first]:.0f} % of variance)")
        ax.set_ylabel(f"component {second + 1} ({100 * parts[second]:.0f} %)")
    heading(axes[0], "learned identity of every cell")
    if total >= 1e-12:
        legend(axes[0], loc="best", markerscale=1.6, handletextpad=0.1)


def _scatter(ax: Axes, x: Tensor, y: Tensor, kind: Tensor, types: int) -> None:
    for index, name in enumerate(cone_names(types)):
        chosen = kind == index
        if chosen.any():
            ax.scatter(
                x[chosen].numpy(), y[chosen].numpy(), s=7, alpha=0.6, linewidths=0,
                color=CONE_COLORS[name], marker=CONE_MARKERS[name], label=name,
            )  # fmt: skip
    if (kind < 0).any():
        ax.scatter(
            x[kind < 0].numpy(), y[kind < 0].numpy(), s=7, alpha=0.6, linewidths=0, color=GREY,
            marker="X", label="mixed",
        )  # fmt: skip
    ax.axhline(0, color=FAINT, linewidth=0.6, zorder=0)
    ax.axvline(0, color=FAINT, linewidth=0.6, zorder=0)


def cone_fundamentals(
    fundamentals: Float[Tensor, "N T"],
    wavelengths_nm: Float[Tensor, " N"] | None = None,
    *,
    types: str | None = None,
    title: str = "",
) -> Figure:
    """Show the spectral sensitivity of cones.

    Args:
        fundamentals: Sensitivities, as :func:`calcarine.color.cone_fundamentals` returns them.
        wavelengths_nm: Where they were evaluated; 400..700 nm in steps of 1 nm when left out.
        types: Name of every column, one letter each; by default L, M, S (, Q).
        title: Heading of the whole figure.

    Raises:
        ShapeError: If sensitivities, wavelengths and types do not fit.
    """
    from calcarine.color import default_wavelengths

    grid = default_wavelengths() if wavelengths_nm is None else torch.as_tensor(wavelengths_nm)
    if fundamentals.ndim != 2 or len(fundamentals) != grid.numel():
        raise ShapeError(
            "cone_fundamentals expected axes (wavelength, type) with as many rows as wavelengths, "
            f"{grid.numel()}, got shape {tuple(fundamentals.shape)}."
        )
    names = cone_names(fundamentals.shape[1]) if types is None else types
    if len(names) != fundamentals.shape[1]:
        raise ShapeError(
            f"cone_fundamentals expected one letter per column, got {names!r} for "
            f"{fundamentals.shape[1]}."
        )
    figure, [[ax]] = new_figure(panel=(5.2, 2.9), title=title)
    x = grid.detach().cpu().double()
    for name, column in zip(names, fundamentals.detach().cpu().double().T, strict=True):
        color = CONE_COLORS.get(name, INK)
        peak = int(column.argmax())
        ax.plot(
            x.numpy(), column.numpy(), color=color, linewidth=1.8, label=f"{name}, {x[peak]:.0f} nm"
        )
    ax.set_ylim(0, 1.04 * float(fundamentals.max()))
    ax.set_xlim(float(x.min()), float(x.max()))
    ax.set_xlabel("wavelength (nm)")
    ax.set_ylabel("relative sensitivity")
    legend(ax, loc="upper left", bbox_to_anchor=(1, 1), title="peak", title_fontsize=8)
    return figure
