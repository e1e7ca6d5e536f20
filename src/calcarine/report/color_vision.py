"""What a colour cortex sees of a picture, and how like the picture it is.

    photograph -> linear RGB -> cone signals -> retina, fixation by fixation -> optic nerve
               -> cortex -> percept scope -> linear RGB -> sRGB, clipped

An eye on a regular lattice scans the picture. A foveated eye looks once, at the centre; every point
of its percept is then the cell nearest to it.

    luminance = l + m      red-green = l - m      blue-yellow = s - (l + m) / 2

with l, m, s the signals of human cones relative to white; the correlation of percept and picture in
each of them says whether colour is seen, which one number over all channels would hide.

Axes    B batch | T cone types | S cells along a side | H W picture, px | F frames | P panel, px
Source  kotani2024 (percept and scope); the comparison is ours
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.color import ConeSpace, linear_to_srgb, srgb_to_linear
from calcarine.errors import InputError, ShapeError
from calcarine.plot import caption_frames
from calcarine.probes import scan
from calcarine.retina import ConeActivation, FixationalDrift, UniformSampling, crop
from calcarine.retina.eye_motion import crop_center, limits
from calcarine.training.color_vision import ColorVisionTask
from calcarine.training.run import Run

__all__ = ["likeness", "moving_eye", "other_eye", "percepts", "see"]

_BATCH = 16
Q_PEAK_NM = 545.0  # of a human tetrachromat; kotani2024
_TOP = 0.995  # share of a signed signal that its scale leaves unclipped


@torch.no_grad()
def percepts(run: Run, image: Float[Tensor, "1 3 H W"]) -> dict[str, Tensor]:
    """Return what a colour cortex gets and makes of a picture.

    Args:
        run: The run of a colour cortex, at the age of interest.
        image: sRGB code values in [0, 1], at least as large as the eye's field of view.

    Returns:
        Pictures in sRGB, (1, C, H, W): ``original``, as far as it was looked at; ``optic_nerve``,
        one number per cell, fixation beside fixation; ``percept``, as the percept scope shows it.

    Raises:
        InputError: If this is not the run of a colour cortex.
        ShapeError: If the picture has other axes or is too small.
    """
    task = _color_task(run)
    if image.ndim != 4 or tuple(image.shape[:2]) != (1, 3):
        raise ShapeError(
            "percepts expected one colour picture with axes (1, 3, height, width), got shape "
            f"{tuple(image.shape)}."
        )
    original = image.to(task.retina.mosaic)
    if not isinstance(task.retina.sampling, UniformSampling):
        original = crop_center(original, task.retina.window)
    scene = task.space.linear_to_cones(srgb_to_linear(original))
    nerve, shown = _look(task, scene)
    return {
        "original": original,
        "optic_nerve": _nerve_picture(task, nerve),
        "percept": linear_to_srgb(shown).clamp(0, 1),
    }


def see(run: Run, image: Float[Tensor, "1 C H W"]) -> dict[str, Tensor]:
    """Return what a colour cortex gets and makes of any picture, see :func:`percepts`.

    A grey picture is taken for grey light, and one smaller than the eye's field of view is enlarged
    to it.

    Raises:
        InputError: If this is not the run of a colour cortex.
        ShapeError: If this is not one picture.
    """
    task = _color_task(run)
    if image.ndim == 3:
        image = image[None]
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[1] not in (1, 3):
        raise ShapeError(
            "see expected one picture with axes (1, channel, height, width) and 1 or 3 channels, "
            f"got shape {tuple(image.shape)}."
        )
    factor = task.retina.window / min(image.shape[-2:])
    if factor > 1:
        size = [max(task.retina.window, round(side * factor)) for side in image.shape[-2:]]
        image = F.interpolate(image, size, mode="bilinear").clamp(0, 1)
    return percepts(run, image.expand(-1, 3, -1, -1))


def other_eye(
    run: Run, mosaic: str | None = None, peaks_nm: tuple[float, ...] | None = None
) -> Run:
    """Put another eye in front of a trained cortex, which does not learn of it.

    The cells stay where they are; a mosaic of the same seed shares with the run's own all cells
    that it can. What people with the other eye cannot tell apart becomes the same in the percept.

    Args:
        run: The run of a colour cortex; left as it is.
        mosaic: Kind of mosaic; by default the one of the run's eye, cell by cell.
        peaks_nm: Peaks of L, M, S and perhaps Q, nm; by default those of the run's eye, and 545
            for Q.

    Raises:
        InputError: If this is not the run of a colour cortex, or the pigments do not fit.
        UnknownNameError: If there is no such mosaic.
    """
    task = copy.copy(_color_task(run))
    old = task.retina
    peaks = old.peaks_nm if peaks_nm is None else tuple(peaks_nm)
    needed = 4 if "Q" in (mosaic or "") or (mosaic is None and len(old.peaks_nm) == 4) else 3
    if peaks_nm is None and needed > len(peaks):
        peaks = (*peaks, Q_PEAK_NM)
    if len(peaks) < needed:
        raise InputError(
            f"The eye {mosaic or 'of the run'} has four pigments, got the peaks {peaks}. Add the "
            "fourth."
        )
    peaks = peaks[:needed]
    task.retina = eye = copy.deepcopy(old)
    eye.peaks_nm, task.space = peaks, ConeSpace(peaks)
    if mosaic is not None:
        types = "LMSQ"[:needed]
        activation = ConeActivation(eye.size, kind=mosaic, types=types, seed=old.seed)  # type: ignore[arg-type]
        eye.activation = activation.to(old.mosaic).eval()
    return replace(run, task=task)


def _color_task(run: Run) -> ColorVisionTask:
    if not isinstance(run.task, ColorVisionTask):
        raise InputError(
            "Seeing expected the run of a colour cortex (color_vision_task), got one of "
            f"{type(run.task).__name__}."
        )
    return run.task


def _look(task: ColorVisionTask, scene: Tensor) -> tuple[Tensor, Tensor]:
    """Return the optic nerve (1, 1, H, W) and the percept in linear RGB (1, 3, H, W)."""
    retina = task.retina

    def show(fields: Tensor) -> Tensor:
        return task.percept_scope(task.cortex.decode(retina.snapshot(fields)))

    if isinstance(retina.sampling, UniformSampling):
        return _side_by_side(retina.snapshot, scene, retina.window), scan(
            show, scene, retina.window
        )
    nearest = _nearest_cell(retina.sampling.positions, retina.window)
    return tuple(x.flatten(2)[..., nearest] for x in (retina.snapshot(scene), show(scene)))  # type: ignore[return-value]


def _side_by_side(look: Callable[[Tensor], Tensor], scene: Tensor, field: int) -> Tensor:
    """Lay fixations next to each other: averaging them would blur the mosaic away."""
    height, width = scene.shape[-2:]
    corners = [
        (min(y, height - field), min(x, width - field))
        for y in range(0, height, field)
        for x in range(0, width, field)
    ]
    whole = scene.new_zeros(1, 1, height, width)
    for start in range(0, len(corners), _BATCH):
        some = corners[start : start + _BATCH]
        fields = torch.cat([scene[..., y : y + field, x : x + field] for y, x in some])
        for (y, x), signal in zip(some, look(fields), strict=True):
            whole[0, :, y : y + field, x : x + field] = signal
    return whole


def _nearest_cell(positions: Float[Tensor, "2 S S"], window: int) -> Tensor:
    """Return which cell lies nearest to every pixel of the field of view, (window, window)."""
    from scipy.spatial import cKDTree

    axis = (torch.arange(window, dtype=torch.double) + 0.5) * 2 / window - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cells = positions.detach().cpu().double().flatten(1).T
    _, index = cKDTree(cells.numpy()).query(torch.stack([x, y], dim=-1).numpy())
    return torch.from_numpy(index).to(positions.device)


def _nerve_picture(task: ColorVisionTask, nerve: Tensor) -> Tensor:
    """Show signals of the optic nerve as grey: light as displays show it, or around rest."""
    if task.retina.inhibition is None:
        return linear_to_srgb(nerve).clamp(0, 1)
    flat = nerve.abs().flatten()
    flat = flat[:: max(1, flat.numel() // 1_000_000)]  # quantile takes 16 million at most
    top = torch.quantile(flat, _TOP).clamp(min=1e-6)
    return (0.5 + nerve / (2 * top)).clamp(0, 1)


def likeness(
    seen: Float[Tensor, "1 3 H W"], original: Float[Tensor, "1 3 H W"]
) -> dict[str, float]:
    """Return how like a picture its percept is.

    Args:
        seen: sRGB code values in [0, 1].
        original: The same of the picture.

    Returns:
        ``psnr_db``, peak signal-to-noise ratio of code values, and the correlations ``luminance``,
        ``red_green`` and ``blue_yellow``; NaN where a channel does not vary.
    """
    error = (seen - original).double().square().mean().item()
    found = {"psnr_db": 10 * math.log10(1 / error) if error > 0 else math.inf}
    pairs = zip(_opponent(seen), _opponent(original), strict=True)
    for name, (a, b) in zip(("luminance", "red_green", "blue_yellow"), pairs, strict=True):
        found[name] = _correlation(a, b)
    return found


def _opponent(image: Tensor) -> Float[Tensor, "3 N"]:
    space = ConeSpace()
    cones = space.linear_to_cones(srgb_to_linear(image.double().cpu()))[0].flatten(1)
    long, middle, short = cones / space.white_point[:, None]
    return torch.stack([long + middle, long - middle, short - (long + middle) / 2])


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b)
    if min(a.abs().max(), b.abs().max()) < 1e-9:
        return math.nan
    return float((a @ b / scale).clamp(-1, 1))


@torch.no_grad()
def moving_eye(
    run: Run,
    image: Float[Tensor, "1 3 H W"],
    *,
    frames: int = 30,
    panel_px: int = 192,
    seed: int = 0,
) -> Float[Tensor, "F 3 P Q"]:
    """Film what a moving eye sends to the brain, and what the cortex makes of it.

    Args:
        run: The run of a colour cortex.
        image: sRGB code values in [0, 1], at least as large as the eye's field of view.
        frames: Length of the movie.
        panel_px: Side of each of the three panels.
        seed: Seed of the eye's path.

    Returns:
        Light on the retina, optic nerve and percept side by side, sRGB in [0, 1], with captions.

    Raises:
        InputError: If this is not the run of a colour cortex.
        ShapeError: If the picture is smaller than the field of view.
    """
    task = _color_task(run)
    retina = task.retina
    original = image.to(retina.mosaic)
    room = limits(original.shape[-2], original.shape[-1], retina.window)
    mover = FixationalDrift(max(retina.max_shift_px, 1), min_saccade_px=1.0)
    path = mover.path(1, frames, room, torch.Generator().manual_seed(seed))
    scene = task.space.linear_to_cones(srgb_to_linear(original))
    nerve = retina(scene, path=path).optic_nerve[0][:, None]
    shown = torch.cat([task.percept_scope(task.cortex.decode(s)) for s in nerve.split(_BATCH)])
    panels: list[Any] = [
        crop(original, path, retina.window)[0],
        _nerve_picture(task, nerve).expand(-1, 3, -1, -1),
        linear_to_srgb(shown).clamp(0, 1),
    ]
    gap = original.new_ones(frames, 3, panel_px, 8)
    sized = [F.interpolate(p, (panel_px, panel_px), mode="nearest") for p in panels]
    film = torch.cat([sized[0], gap, sized[1], gap, sized[2]], dim=-1)
    return caption_frames(film.cpu(), ["light on the retina\toptic nerve\tpercept"] * frames)
