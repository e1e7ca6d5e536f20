"""``calcarine see``: show what a trained cortex sees."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

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
    out: Path | None = None,
) -> None:
    """Show what a trained cortex sees of a picture.

    The picture is scanned by the run's eye; what its cortex makes of the optic nerve is shown as
    colours by the linear read-out learned beside it. Written is one image: the picture, what the
    optic nerve sends, and what the cortex sees.

    ```
    calcarine see --run runs/color-sandbox
    calcarine see sample:coffee --run runs/color-sandbox --age 100
    calcarine see photo.jpg --run runs/color-sandbox --out seen.png
    ```

    Args:
        image: Path of a picture, or sample:NAME.
        run: Folder of the run.
        age: Updates that the cortex had learned for; by default all of them.
        out: Image to write; by default see- and the name of the picture, as PNG.
    """
    check_run(run)
    if age is not None:
        check_age(run, age)
    picture = open_picture(image)
    from calcarine.report.color_vision import see as look
    from calcarine.stimuli import save_image
    from calcarine.training.run import open_run

    opened = open_run(run, age)
    shown = look(opened, picture)
    target = Path(f"see-{picture_name(image)}.png") if out is None else out
    save_image(_side_by_side(shown), target, clip=True)
    psnr = _psnr_db(shown["percept"], shown["original"])
    print(f"Wrote {target}: the picture, the optic nerve, and what the cortex sees.")
    print(f"After {opened.update} updates the percept matches the picture with {psnr:.1f} dB PSNR.")
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


def _psnr_db(seen: Tensor, original: Tensor) -> float:
    """Peak signal-to-noise ratio of two pictures in sRGB, dB."""
    error = (seen.clamp(0, 1) - original.to(seen)).square().mean().item()
    return 10 * math.log10(1 / error) if error > 0 else math.inf
