"""``calcarine see``: show what a trained cortex sees."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from calcarine.commands.eyes import read_peaks
from calcarine.commands.shared import check_age, check_run, open_picture, picture_name

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["see"]


def see(
    image: str = "sample:coffee",
    /,
    *,
    run: Path,
    age: int | None = None,
    eye: str | None = None,
    peaks: str | None = None,
    out: Path | None = None,
) -> None:
    """Show what a trained cortex sees of a picture.

    The picture is scanned by the run's eye; what its cortex makes of the optic nerve is shown as
    colours by the linear read-out learned beside it. Written is one image: the picture, what the
    optic nerve sends, and what the cortex sees.

    With `--eye` or `--peaks`, a second row shows what the same cortex makes of the signals of
    another eye, whose cells lie in the same places but carry other pigments.

    ```
    calcarine see --run runs/color-sandbox
    calcarine see sample:coffee --run runs/color-sandbox --age 100
    calcarine see photo.jpg --run runs/color-sandbox --out seen.png
    calcarine see --run runs/color-sandbox --eye MS
    calcarine see --run runs/color-sandbox --peaks 560,550,419
    ```

    Args:
        image: Path of a picture, or sample:NAME.
        run: Folder of the run.
        age: Updates that the cortex had learned for; by default all of them.
        eye: Mosaic of another eye to look through: LM, LS, MS, L, LMSQ, MS+L_replace_M, ...
        peaks: Peaks of its pigments L, M, S and perhaps Q, nm; by default those of the run's eye.
        out: Image to write; by default see- and the name of the picture, as PNG.
    """
    check_run(run)
    if age is not None:
        check_age(run, age)
    picture = open_picture(image)
    from calcarine.report.color_vision import other_eye
    from calcarine.report.color_vision import see as look
    from calcarine.stimuli import save_image
    from calcarine.training.run import open_run

    opened = open_run(run, age)
    rows = [look(opened, picture)]
    if eye is not None or peaks is not None:
        pigments = None if peaks is None else read_peaks(peaks, 4)
        rows.append(look(other_eye(opened, eye, pigments), picture))
    target = Path(f"see-{picture_name(image)}.png") if out is None else out
    save_image(_below_each_other([_side_by_side(row) for row in rows]), target, clip=True)
    psnr = [_psnr_db(row["percept"], row["original"]) for row in rows]
    print(f"Wrote {target}: the picture, the optic nerve, and what the cortex sees.")
    print(
        f"After {opened.update} updates the percept matches the picture with {psnr[0]:.1f} dB PSNR."
    )
    if len(rows) > 1:
        print(f"Second row: the same through the other eye, with {psnr[1]:.1f} dB PSNR.")
    print(f"\nNow try: calcarine colour-match {shlex.quote(str(run))}")


def _side_by_side(shown: dict[str, Tensor]) -> Tensor:
    """Return original, optic nerve and percept next to each other, (3, H, W)."""
    import torch

    panels = [shown[name].detach().cpu().float() for name in ("original", "optic_nerve", "percept")]
    panels = [panel[0] if panel.ndim == 4 else panel for panel in panels]
    height = max(panel.shape[-2] for panel in panels)
    padded = []
    for panel in panels:
        white = torch.ones(3, height, panel.shape[-1] + 8)
        white[:, : panel.shape[-2], : panel.shape[-1]] = panel
        padded.append(white)
    return torch.cat(padded, dim=-1)[..., :-8]


def _below_each_other(rows: list[Tensor]) -> Tensor:
    """Stack pictures of one width, (3, H, W)."""
    import torch

    gap = rows[0].new_ones(3, 8, rows[0].shape[-1])
    parts = [part for row in rows for part in (row, gap)]
    return torch.cat(parts[:-1], dim=-2)


def _psnr_db(seen: Tensor, original: Tensor) -> float:
    """Peak signal-to-noise ratio of two pictures in sRGB, dB."""
    error = (seen.clamp(0, 1) - original.to(seen)).square().mean().item()
    return 10 * math.log10(1 / error) if error > 0 else math.inf
