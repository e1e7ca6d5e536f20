"""``calcarine retina``: film what the optic nerve sends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from calcarine.commands.eyes import read_peaks
from calcarine.commands.shared import open_picture, picture_name
from calcarine.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

__all__ = ["retina"]


def retina(
    image: str = "sample:astronaut",
    /,
    *,
    out: Path | None = None,
    mosaics: str = "LMS,LS,MS,LM",
    size: int = 128,
    frames: int = 30,
    sampling: Literal["fovea", "uniform"] = "fovea",
    motion: Literal["drift", "shifts", "still"] = "drift",
    max_shift: int = 15,
    spikes: bool = False,
    peaks: str | None = None,
    seed: int = 0,
    format: Literal["webp", "gif", "mp4"] = "webp",
) -> None:
    """Film what the optic nerve sends, for normal and for colour-deficient eyes.

    All eyes look at the same picture along the same path. For each of them the movie shows the
    cones, their activation, and the one number per cell and moment that the brain gets.

    ```
    calcarine retina
    calcarine retina sample:coffee --mosaics LMS,LM --spikes
    calcarine retina photo.jpg --size 64 --sampling uniform --out eyes
    calcarine retina sample:flower --frames 60 --format mp4
    ```

    Args:
        image: Path of a picture, or sample:NAME.
        out: Folder to write to; by default retina- and the name of the picture.
        mosaics: Eyes, separated by commas: LMS normal, LS deuteranope, MS protanope, LM tritanope;
            also L, M, S, LMSQ, and therapies such as MS+L_replace_M.
        size: Cells along each side of the retina.
        frames: Length of the movie.
        sampling: Cones as dense as in a human fovea, or on a regular lattice.
        motion: How the eye moves: drift with microsaccades, random shifts, or not at all.
        max_shift: Largest sudden movement of the eye, px of the scene.
        spikes: Send spikes instead of graded signals.
        peaks: Peaks of L, M, S and perhaps Q, nm, of all eyes, such as 560,550,419 for anomalous
            trichromats; by default 560,530,419,545.
        seed: Seed of the mosaics and of the eye's path.
        format: Kind of movie.
    """
    kinds = _checked(mosaics, frames=frames, size=size, max_shift=max_shift)
    settings: dict[str, Any] = {"size": size, "sampling": sampling, "max_shift_px": max_shift}
    settings |= {"spikes": spikes, "seed": seed, "peaks": peaks}
    eyes = [_eye(kind, **settings) for kind in kinds]
    picture = open_picture(image, eyes[0].scene_size)
    path = _gaze(picture, eyes[0].window, motion, frames, max_shift, seed)
    folder = Path(f"retina-{picture_name(image)}") if out is None else out

    from calcarine.commands.retina_movie import compose
    from calcarine.plot import fixation_path, save_animation, save_figure
    from calcarine.stimuli import save_image

    movie = compose(picture, dict(zip(kinds, eyes, strict=True)), path, spikes=spikes)
    save_animation(movie, folder / f"retina.{format}", fps=10)
    save_image(movie[frames // 2], folder / "retina.png", clip=True)
    drawn = save_figure(fixation_path(picture, path, eyes[0].window), folder / "path.png")
    print(f"Wrote {folder / f'retina.{format}'} ({frames} frames) and {folder / 'retina.png'}")
    print(f"Where the eye looked: {drawn}")
    kind = next((each for each in reversed(kinds) if "Q" not in each), None)
    if kind is not None:
        print("\nNow try, for a cortex behind such an eye:")
        print(f"  calcarine train --set retina.mosaic={kind} --run runs/{kind}")


def _checked(mosaics: str, *, frames: int, size: int, max_shift: int) -> list[str]:
    """Check the numbers and return the kinds of mosaic."""
    kinds = list(dict.fromkeys(kind.strip() for kind in mosaics.split(",") if kind.strip()))
    if not kinds:
        raise InputError("--mosaics expected at least one eye, such as LMS.")
    if not 1 <= frames <= 300:
        raise InputError(f"--frames expected 1 to 300, got {frames}.")
    if not 8 <= size <= 512:
        raise InputError(f"--size expected 8 to 512 cells, got {size}.")
    if max_shift < 0:
        raise InputError(f"--max-shift expected at least 0, got {max_shift}.")
    return kinds


def _eye(
    kind: str,
    *,
    size: int,
    sampling: Any,
    max_shift_px: int,
    spikes: bool,
    seed: int,
    peaks: str | None = None,
) -> Any:
    from calcarine.retina import Retina

    pigments = read_peaks(peaks, 4)
    if "Q" in kind and len(pigments) < 4:
        raise InputError(f"The eye {kind} has a fourth pigment; --peaks expected its peak, too.")
    return Retina(
        size,
        mosaic=kind,
        peaks_nm=pigments if "Q" in kind else pigments[:3],
        sampling=sampling,
        max_shift_px=max_shift_px,
        spikes="lif" if spikes else None,
        seed=seed,
    ).eval()


def _gaze(
    picture: Tensor, window: int, motion: str, frames: int, max_shift: int, seed: int
) -> Int64[Tensor, "F 2"]:
    """Draw one path for all eyes: (dx, dy) from the centre of the picture, px."""
    import torch

    from calcarine.retina import EyeMotion, FixationalDrift, RandomShifts
    from calcarine.retina.eye_motion import limits

    mover: EyeMotion
    if motion == "drift":
        mover = FixationalDrift(max_shift, min_saccade_px=min(4.0, max_shift))
    else:
        mover = RandomShifts(0 if motion == "still" else max_shift)
    room = limits(picture.shape[-2], picture.shape[-1], window)
    return mover.path(1, frames, room, torch.Generator().manual_seed(seed))[0]
