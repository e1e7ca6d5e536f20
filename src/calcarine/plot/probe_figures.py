"""Figures of what probes found: the pictures, and what the model makes of them.

    metamer_figure           image, start and metamer, above the response to each
    eigendistortion_figure   the image with every distortion added, above the distortion alone
    mad_figure               the image, the start, and the four pictures that set two metrics apart

All take any object with the attributes of the probe's result, also one loaded from a file.

Axes    B batch | C channel, 1 grey or 3 sRGB | H W rows down, columns right
Source  berardino2017 (eigendistortions); wang2008 (maximum differentiation); the layouts are ours
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.plot.images import add_scales, draw_picture
from calcarine.plot.style import heading, new_figure
from calcarine.plot.synthesis import check_item, check_statistics, draw_statistics, status_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["eigendistortion_figure", "mad_figure", "metamer_figure", "metric_name"]

_MOST_CHANNELS = 3  # of a representation


@torch.no_grad()
def metamer_figure(metamer: Any, *, item: int = 0, title: str = "") -> Figure:
    """Show a metamer: image, start and metamer, and what the model makes of each.

    Pictures share the range 0 to 1, responses in a row share theirs. Of a representation with many
    channels the first three are shown, of a complex one the magnitude; one without a place is shown
    as lines.

    Args:
        metamer: The metamer, with its model.
        item: Which item of the batch.
        title: Heading of the whole figure.

    Raises:
        InputError: If there is no such item.
        ShapeError: If the representation has other axes.
    """
    check_item(metamer.metamer, item)
    pictures = [metamer.image[item], metamer.initial[item], metamer.metamer[item]]
    responses = [metamer.model(p[None])[0].detach().cpu() for p in pictures]
    responses = [r.abs() if r.is_complex() else r for r in responses]
    maps = responses[0].ndim == 3
    if not maps:
        check_statistics(responses[0])
    rows = 1 + (min(len(responses[0]), _MOST_CHANNELS) if maps else 1)
    figure, axes = new_figure(rows, 3, panel=(2.6, 2.5), title=title)
    names = ("image", "start", f"metamer, {status_text(metamer.status)}")
    for ax, name, picture in zip(axes[0], names, pictures, strict=True):
        draw_picture(ax, picture, 0.0, 1.0)
        heading(ax, name)
    if maps:
        _draw_maps(figure, axes[1:], responses)
    else:
        _draw_lines(axes[1], responses)
    return figure


def _draw_maps(figure: Figure, rows: list[list[Axes]], responses: list[Tensor]) -> None:
    count = len(responses[0])
    for channel, axes in enumerate(rows):
        planes = [r[channel] for r in responses]
        low = min(float(p.min()) for p in planes)
        high = max(float(p.max()) for p in planes)
        high = high if high > low else low + 1e-9
        for ax, plane in zip(axes, planes, strict=True):
            shown = draw_picture(ax, plane, low, high)
            heading(ax, f"response, channel {channel} of {count}" if count > 1 else "response")
        add_scales(figure, [(ax, shown) for ax in axes])


def _draw_lines(axes: list[Axes], responses: list[Tensor]) -> None:
    low = min(0.0, *(float(r.min()) for r in responses))
    high = max(0.0, *(float(r.max()) for r in responses))
    room = 0.05 * (high - low or 1.0)
    for ax, response in zip(axes, responses, strict=True):
        draw_statistics(ax, response)
        ax.set_ylim(low - room, high + room)
        heading(ax, "response")


def eigendistortion_figure(
    eigendistortion: Any,
    image: Float[Tensor, "1 C H W"] | None = None,
    *,
    scale: float = 3.0,
    title: str = "",
) -> Figure:
    """Show eigendistortions: added to the image, and alone.

    Alone, every distortion has its own range, symmetric about zero, which is middle grey. Titles
    give the eigenvalue, how strongly the model responds to a small step along the distortion, and
    its residual relative to the largest eigenvalue.

    Args:
        eigendistortion: The result, with eigenvalues, distortions of unit norm and residuals.
        image: The image; that of the result when left out.
        scale: Norm of what is added to the image.
        title: Heading of the whole figure.

    Raises:
        InputError: If nothing was synthesised yet, or the scale is not above zero.
        ShapeError: If image and distortions differ in size.
    """
    image = eigendistortion.image if image is None else image
    distortions = eigendistortion.eigendistortions
    if distortions is None or not len(distortions):
        raise InputError("Expected eigendistortions, got none. Call synthesize() first.")
    if image.shape[-3:] != distortions.shape[-3:]:
        raise ShapeError(
            f"Expected an image like the distortions, (channel, height, width) = "
            f"{tuple(distortions.shape[-3:])}, got shape {tuple(image.shape)}."
        )
    if not scale > 0:
        raise InputError(f"Expected a scale above 0, got {scale}.")
    image = image.reshape(image.shape[-3:]).detach()
    count = len(distortions)
    aspect = image.shape[-2] / image.shape[-1]
    figure, axes = new_figure(2, count + 1, panel=(2.5, 2.3 * min(aspect, 2) + 0.4), title=title)
    draw_picture(axes[0][0], image, 0.0, 1.0)
    heading(axes[0][0], "image\n")
    axes[1][0].set_axis_off()
    for index, distortion in enumerate(distortions.detach()):
        top, bottom = axes[0][index + 1], axes[1][index + 1]
        draw_picture(top, image + scale * distortion, 0.0, 1.0)
        heading(top, f"image + {scale:g} x distortion {index + 1}\n{_strength(index, count)}")
        most = max(float(distortion.abs().max()), 1e-12)
        draw_picture(bottom, distortion, -most, most)
        value = float(eigendistortion.eigenvalues[index])
        residual = float(eigendistortion.residuals[index])
        heading(bottom, f"eigenvalue {value:.3g}\nresidual {residual:.1g}, peak {most:.2g}")
    return figure


def _strength(index: int, count: int) -> str:
    """Return what a distortion is to the model: k strongest ones first, k weakest last."""
    if index < count // 2:
        return f"{_ordinal(index + 1)}most noticeable"
    return f"{_ordinal(count - index)}least noticeable"


def _ordinal(place: int) -> str:
    """Return a place as a word in front of a superlative; nothing for the first."""
    ending = "th" if 10 < place % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return "" if place == 1 else f"{place}{ending} "


def mad_figure(
    results: Mapping[str, Any] | Sequence[Any],
    *,
    names: tuple[str, str] | None = None,
    item: int = 0,
    title: str = "",
) -> Figure:
    """Show the four pictures of a maximum differentiation competition.

    All pictures of a row are equally far from the image by one metric, and as near (left) or far
    (right) as they can be by the other. All searches began from the noisy picture named start.

    Args:
        results: The four results, in any order.
        names: What to call the metric optimised by the first result, and the other; by default
            their own names.
        item: Which item of the batch.
        title: Heading of the whole figure.

    Raises:
        InputError: If it is not both directions of two metrics, or there is no such item.
    """
    found = list(results.values()) if isinstance(results, Mapping) else list(results)
    if not found:
        raise InputError("mad_figure expected four results, got none.")
    first = found[0].optimized_metric
    cells = {(r.optimized_metric is not first, r.minmax): r for r in found}
    wanted = {(other, minmax) for other in (False, True) for minmax in ("min", "max")}
    if len(found) != 4 or set(cells) != wanted:
        came = ", ".join(f"{metric_name(r.optimized_metric)} {r.minmax}" for r in found)
        raise InputError(
            "mad_figure expected four results, each of two metrics optimised to 'min' and to "
            f"'max', got {len(found)}: {came}."
        )
    check_item(found[0].mad_image, item)
    names = names or (metric_name(first), metric_name(found[0].reference_metric))
    figure, axes = new_figure(2, 3, panel=(2.6, 2.75), title=title)
    for row, (text, picture) in enumerate(
        {"image": found[0].image, "start": found[0].initial}.items()
    ):
        draw_picture(axes[row][0], picture[item], 0.0, 1.0)
        heading(axes[row][0], f"{text}\n")
    for (other, minmax), result in cells.items():
        ax = axes[int(other)][1 if minmax == "min" else 2]
        draw_picture(ax, result.mad_image[item], 0.0, 1.0)
        optimized, reference = names[::-1] if other else names
        values = [float(v.detach().flatten()[-1]) for v in result.losses[:2]]
        heading(
            ax,
            f"{'lowest' if minmax == 'min' else 'highest'} {optimized}, same {reference}\n"
            f"{optimized} {values[0]:.3g}, {reference} {values[1]:.3g}",
        )
    return figure


def metric_name(metric: Any) -> str:
    """Return what a metric is called: the name of a function, or of a class."""
    return str(getattr(metric, "__name__", type(metric).__name__))
