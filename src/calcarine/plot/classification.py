"""What a network in time takes a picture for: probabilities of classes, and the answer, over time.

    classification_figure   the picture, its leading classes over time, and the answer below

Axes    T moments | K classes | C channel, 1 grey or 3 sRGB | H W rows down, columns right
Units   time in ms from the onset of the picture
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.plot.images import as_picture, draw_picture
from calcarine.plot.style import FAINT, GREY, INK, SERIES, heading, legend, new_figure, plain_panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["classification_figure", "leading_classes"]

_NARROW = 0.07  # of the time axis: answers that last less carry no name


def classification_figure(
    picture: Float[Tensor, "C H W"],
    time_ms: Float[Tensor, " T"],
    probabilities: Float[Tensor, "T K"],
    class_names: Sequence[str],
    *,
    offset_ms: float,
    decided_ms: float | None = None,
    truth: int | None = None,
    most: int = 5,
    title: str = "",
) -> Figure:
    """Show the picture, the probabilities of the leading classes, and the answer over time.

    Args:
        picture: What was shown, code values in [0, 1].
        time_ms: Ascending times from the onset.
        probabilities: Of every class at each of them.
        class_names: One per class.
        offset_ms: When the picture went; the time before it is shaded.
        decided_ms: From when on the answer stayed; marked by a line.
        truth: The right class, if known; its curve is drawn thick.
        most: How many classes get a curve.
        title: Heading of the whole figure.

    Raises:
        ShapeError: If there is not one probability per time and class, or one name per class.
        InputError: If no class is to be drawn.
    """
    time_ms, shares = time_ms.detach().double().cpu(), probabilities.detach().double().cpu()
    if shares.ndim != 2 or shares.shape != (len(time_ms), len(class_names)) or not len(time_ms):
        raise ShapeError(
            "classification_figure expected probabilities with axes (time, class), "
            f"{len(time_ms)} times and {len(class_names)} named classes, got shape "
            f"{tuple(shares.shape)}."
        )
    if most < 1:
        raise InputError(f"classification_figure expected most >= 1, got {most}.")
    shown = leading_classes(time_ms, shares, offset_ms, most)
    colors = {k: SERIES[i % len(SERIES)] for i, k in enumerate(shown)}
    figure, [[left, above], [empty, below]] = new_figure(
        2, 2, panel=(4.2, 1.7), title=title, width_ratios=(1, 2.6), height_ratios=(5, 1)
    )
    empty.set_axis_off()
    draw_picture(left, as_picture(picture), 0.0, 1.0)
    plain_panel(left)
    heading(left, "shown" if truth is None else f"shown: {class_names[truth]}")
    _draw_curves(above, time_ms, shares, class_names, colors, truth)
    _draw_answers(below, time_ms, shares.argmax(1), class_names, colors)
    for ax in (above, below):
        ax.axvspan(0, offset_ms, color=FAINT, alpha=0.5, linewidth=0, zorder=0)
        ax.set_xlim(float(time_ms[0]), float(time_ms[-1]))
        if decided_ms is not None:
            ax.axvline(decided_ms, color=INK, linewidth=0.9, linestyle=":", zorder=4)
    if decided_ms is not None:
        right = "" if truth is None else " (right)" if shown[0] == truth else " (wrong)"
        answer = _short(class_names[shown[0]], 30)
        heading(above, f"answer {answer}{right}, stays from {decided_ms:g} ms on")
    above.tick_params(axis="x", labelbottom=False)
    below.set_xlabel("time from onset (ms); shaded: picture on")
    return figure


def leading_classes(
    time_ms: Float[Tensor, " T"], shares: Float[Tensor, "T K"], offset_ms: float, most: int
) -> list[int]:
    """Return the most probable classes at offset, or at the end where there is none."""
    last = int((time_ms <= offset_ms + 1e-6).nonzero().max()) if (time_ms <= offset_ms).any() else 0
    return shares[last].argsort(descending=True, stable=True)[:most].tolist()


def _draw_curves(
    ax: Axes,
    time_ms: Tensor,
    shares: Tensor,
    names: Sequence[str],
    colors: dict[int, str],
    truth: int | None,
) -> None:
    for k, color in colors.items():
        width = 2.4 if k == truth else 1.4
        ax.plot(
            time_ms.numpy(), shares[:, k].numpy(), color=color, linewidth=width,
            label=_short(names[k], 24),
        )  # fmt: skip
    ax.set_ylim(-0.02, 1.02)
    ax.set_ylabel("probability")
    legend(ax, loc="upper left", bbox_to_anchor=(1.0, 1.0), title="class", title_fontsize=8)


def _draw_answers(
    ax: Axes, time_ms: Tensor, answer: Tensor, names: Sequence[str], colors: dict[int, str]
) -> None:
    """Draw one bar per stretch of time with the same answer."""
    changes = (answer.diff() != 0).nonzero().flatten().add(1).tolist()
    ends = [*time_ms.tolist(), float(time_ms[-1])]
    whole = max(ends[-1] - ends[0], 1e-9)
    for first, after in pairwise([0, *changes, len(answer)]):
        k, start, stop = int(answer[first]), ends[first], ends[after]
        ax.barh(0, stop - start, left=start, height=1, color=colors.get(k, GREY), linewidth=0)
        if stop - start > _NARROW * whole:
            ax.text(
                (start + stop) / 2, 0, _short(names[k], max(3, int(40 * (stop - start) / whole))),
                ha="center", va="center", fontsize=8, color="white", clip_on=True,
            )  # fmt: skip
    ax.set_ylim(-0.5, 0.5)
    ax.set_yticks([])
    ax.set_ylabel("answer")


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
