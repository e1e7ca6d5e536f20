"""Eyes by the words that verbs take: a mosaic, and the peaks of the pigments."""

from __future__ import annotations

from calcarine.errors import InputError

__all__ = ["HUMAN_PEAKS_NM", "Q_PEAK_NM", "read_peaks"]

HUMAN_PEAKS_NM = (560.0, 530.0, 419.0)
"""Peaks of the human L, M and S pigments, nm. carroll2000."""

Q_PEAK_NM = 545.0
"""Peak of the fourth pigment of human tetrachromats, nm. kotani2024."""


def read_peaks(text: str | None, types: int) -> tuple[float, ...]:
    """Read ``--peaks``: the peaks of L, M, S and perhaps Q in nm, separated by commas.

    Args:
        text: What was given; ``None`` for the human ones.
        types: How many planes the mosaic has, for the default.

    Raises:
        InputError: If it is anything else.
    """
    if text is None:
        return (*HUMAN_PEAKS_NM, Q_PEAK_NM)[:types]
    try:
        peaks = tuple(float(part) for part in text.split(","))
    except ValueError:
        peaks = ()
    if len(peaks) not in (3, 4) or not all(350 <= peak <= 700 for peak in peaks):
        raise InputError(
            "--peaks expected three or four wavelengths within 350..700 nm, of L, M, S and perhaps "
            f"Q, separated by commas, such as 560,550,419; got {text!r}."
        )
    return peaks
