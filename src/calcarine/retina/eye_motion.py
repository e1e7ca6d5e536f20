"""Eye movements: where the gaze points in every frame, and what falls on the retina there.

    random shifts   p <- clamp(p + U{-max .. max - 1})
    fixation        v <- 0.7 v + N(0, 1.5 px);  p <- clamp(p + v + saccade)
    given path      p as recorded

A path holds the offset of the gaze from the centre of the scene as (dx, dy) in pixels, x to the
right and y down: a positive dx shows parts of the scene further right, so that its content moves
left on the retina. The first frame looks at the centre.

Axes    B batch | F frames | C cone types or channels | H W scene | S window, pixels
Source  kotani2024 (shifts), engbert2003 (fixational drift and microsaccades)
"""

from __future__ import annotations

import math
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError

__all__ = ["EyeMotion", "FixationalDrift", "GivenPath", "RandomShifts", "crop", "crop_center"]


@runtime_checkable
class EyeMotion(Protocol):
    """What the retina asks of an eye movement; any module with this method can be swapped in."""

    def path(
        self,
        batch: int,
        frames: int,
        limit_px: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Int64[Tensor, "B F 2"]:
        """Return the gaze in every frame, within ``limit_px`` of the centre of the scene."""
        ...


class RandomShifts(nn.Module):
    """Independent whole-pixel shifts from one frame to the next.

    Args:
        max_shift_px: Shifts are uniform over -max_shift_px .. max_shift_px - 1 on each axis; 0
            holds the eye still. kotani2024.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024",)

    def __init__(self, max_shift_px: int = 15) -> None:
        super().__init__()
        self.max_shift_px = _at_least(max_shift_px, 0, "max_shift_px")

    def path(
        self,
        batch: int,
        frames: int,
        limit_px: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Int64[Tensor, "B F 2"]:
        """Draw one path per batch item.

        Args:
            batch: Number of paths.
            frames: Number of frames, the first of which looks at the centre.
            limit_px: Largest distance along x and y that stay inside the scene.
            generator: Source of the shifts.
        """
        path = _at_center(batch, frames, limit_px, generator)
        if frames == 1 or self.max_shift_px == 0:
            return path
        steps = torch.randint(
            -self.max_shift_px,
            self.max_shift_px,
            (batch, frames - 1, 2),
            generator=generator,
            device=path.device,
        )
        for frame in range(1, frames):
            path[:, frame] = _within(path[:, frame - 1] + steps[:, frame - 1], limit_px)
        return path

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"max_shift_px={self.max_shift_px}"


class FixationalDrift(nn.Module):
    """Slow drift of a fixating eye, interrupted by microsaccades.

    The gaze moves in fractions of a pixel; the path is rounded to whole pixels at the end. A gaze
    that reaches the border of the scene stays there until it drifts back.

    Args:
        max_shift_px: Largest amplitude of a microsaccade, px. Ours, as for random shifts.
        min_saccade_px: Smallest amplitude of a microsaccade, px. Ours.
        saccade_probability: Chance of a microsaccade per frame. Ours.
        drift_px: Standard deviation of the random change of velocity, px per frame. Ours.
        persistence: Share of the velocity that is left one frame later, 0 <= p < 1. Ours.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024", "engbert2003")

    def __init__(
        self,
        max_shift_px: int = 15,
        *,
        min_saccade_px: float = 4.0,
        saccade_probability: float = 0.3,
        drift_px: float = 1.5,
        persistence: float = 0.7,
    ) -> None:
        super().__init__()
        self.max_shift_px = _at_least(max_shift_px, 0, "max_shift_px")
        if not 0 <= saccade_probability <= 1 or not 0 <= persistence < 1 or not drift_px >= 0:
            raise InputError(
                "FixationalDrift expected 0 <= saccade_probability <= 1, 0 <= persistence < 1 and "
                f"drift_px >= 0, got {saccade_probability}, {persistence} and {drift_px}."
            )
        if min_saccade_px < 0 or (saccade_probability > 0 and min_saccade_px > max_shift_px):
            raise InputError(
                "FixationalDrift expected 0 <= min_saccade_px <= max_shift_px, got "
                f"{min_saccade_px} and {max_shift_px}. Pass a smaller min_saccade_px, or "
                "saccade_probability=0 for drift alone."
            )
        self.min_saccade_px = float(min_saccade_px)
        self.saccade_probability = float(saccade_probability)
        self.drift_px = float(drift_px)
        self.persistence = float(persistence)

    def path(
        self,
        batch: int,
        frames: int,
        limit_px: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Int64[Tensor, "B F 2"]:
        """Draw one path per batch item; arguments as for :meth:`RandomShifts.path`."""
        path = _at_center(batch, frames, limit_px, generator)
        if frames == 1:
            return path
        # float64 throughout, so that the path does not depend on the dtype of the scene.
        kicks = torch.randn(
            (batch, frames - 1, 2), generator=generator, dtype=torch.float64, device=path.device
        )
        saccades = self._saccades(batch, frames - 1, generator, path.device)
        gaze = torch.zeros(batch, 2, dtype=torch.float64, device=path.device)
        velocity = torch.zeros_like(gaze)
        for frame in range(1, frames):
            velocity = self.persistence * velocity + self.drift_px * kicks[:, frame - 1]
            gaze = _within(gaze + velocity + saccades[:, frame - 1], limit_px)
            path[:, frame] = gaze.round().long()
        return path

    def _saccades(
        self, batch: int, steps: int, generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        happens, length, angle = torch.rand(
            (batch, steps, 3), generator=generator, dtype=torch.float64, device=device
        ).unbind(-1)
        amplitude = self.min_saccade_px + length * (self.max_shift_px - self.min_saccade_px)
        amplitude = amplitude * (happens < self.saccade_probability)
        angle = angle * (2 * math.pi)
        return torch.stack([amplitude * angle.cos(), amplitude * angle.sin()], -1)

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"max_shift_px={self.max_shift_px}, min_saccade_px={self.min_saccade_px}, "
            f"saccade_probability={self.saccade_probability}, drift_px={self.drift_px}, "
            f"persistence={self.persistence}"
        )


class GivenPath(nn.Module):
    """A recorded or designed path, the same for every batch item unless it has a batch axis.

    Args:
        path_px: Gaze per frame as (dx, dy) in whole pixels from the centre of the scene, axes
            (frames, 2) or (batch, frames, 2). Unlike a drawn path it may start anywhere.
    """

    def __init__(self, path_px: Tensor | list[list[int]]) -> None:
        super().__init__()
        path = torch.as_tensor(path_px)
        if path.ndim not in (2, 3) or path.shape[-1] != 2 or path.numel() == 0:
            raise ShapeError(
                "GivenPath expected (frames, 2) or (batch, frames, 2), the last axis being "
                f"(dx, dy) in pixels, got shape {tuple(path.shape)}."
            )
        if bool((path.double() != path.double().round()).any()):
            raise InputError("GivenPath expected whole pixels; pass path.round().")
        self.register_buffer("path_px", path.long())

    path_px: Tensor

    def path(
        self,
        batch: int,
        frames: int,
        limit_px: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Int64[Tensor, "B F 2"]:
        """Return the first ``frames`` of the path, clamped to the scene."""
        _check_counts(batch, frames, limit_px)
        path = self.path_px if self.path_px.ndim == 3 else self.path_px[None]
        if path.shape[1] < frames or path.shape[0] not in (1, batch):
            raise ShapeError(
                f"The given path has {path.shape[1]} frames for {path.shape[0]} batch items, "
                f"{frames} frames for {batch} are wanted. Ask for fewer frames or pass a longer "
                "path; one without a batch axis serves any batch."
            )
        return _within(path[:, :frames], limit_px).expand(batch, -1, -1).clone()

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"frames={self.path_px.shape[-2]}"


def crop(
    scene: Float[Tensor, "B C H W"], path: Int64[Tensor, "B F 2"], window: int
) -> Float[Tensor, "B F C S S"]:
    """Cut out what the eye sees in every frame.

    Args:
        scene: The world in front of the eye.
        path: Gaze per frame as (dx, dy) in px from the centre of the scene; beyond the border of
            the scene the border is kept.
        window: Side of the square field of view, px.

    Raises:
        ShapeError: If the scene is smaller than the window.
    """
    if scene.ndim != 4 or path.ndim != 3 or path.shape[0] != scene.shape[0]:
        raise ShapeError(
            "crop expected a scene (batch, channel, height, width) and a path (batch, frames, 2), "
            f"got shapes {tuple(scene.shape)} and {tuple(path.shape)}."
        )
    limits(scene.shape[-2], scene.shape[-1], window)
    batch, channels, height, width = scene.shape
    frames = path.shape[1]
    device = scene.device
    path = path.to(device)
    left = (path[..., 0] + (width - window) // 2).clamp_(0, width - window)
    top = (path[..., 1] + (height - window) // 2).clamp_(0, height - window)
    # Index of the first pixel of every row of every window, in the flattened scene.
    plane = torch.arange(batch * channels, device=device).view(batch, 1, channels, 1)
    row = top[:, :, None, None] + torch.arange(window, device=device)
    first = (plane * height + row) * width + left[:, :, None, None]
    if scene.requires_grad:
        # The gradient of the overlapping runs below would need `window` copies of the scene.
        pixels = first[..., None] + torch.arange(window, device=device)
        return torch.take(scene, pixels)
    runs = scene.reshape(-1).unfold(0, window, 1)
    return runs.index_select(0, first.flatten()).view(batch, frames, channels, window, window)


def crop_center(scene: Float[Tensor, "*B H W"], window: int) -> Float[Tensor, "*B S S"]:
    """Cut out what the eye sees in its first frame, without copying."""
    limits(scene.shape[-2], scene.shape[-1], window)
    top, left = (scene.shape[-2] - window) // 2, (scene.shape[-1] - window) // 2
    return scene[..., top : top + window, left : left + window]


def limits(height: int, width: int, window: int) -> tuple[int, int]:
    """Largest distance along x and y at which a window stays inside a scene, px.

    Raises:
        ShapeError: If the scene is smaller than the window.
    """
    if height < window or width < window:
        raise ShapeError(
            f"The field of view is {window} x {window} px, the scene (height, width) only "
            f"{height} x {width}. Pass a larger scene, or resize it to at least {window} px."
        )
    return (width - window) // 2, (height - window) // 2


def _at_center(
    batch: int, frames: int, limit_px: tuple[int, int], generator: torch.Generator | None
) -> Tensor:
    _check_counts(batch, frames, limit_px)
    device = torch.device("cpu") if generator is None else generator.device
    return torch.zeros(batch, frames, 2, dtype=torch.int64, device=device)


def _within(gaze: Tensor, limit_px: tuple[int, int]) -> Tensor:
    """Clamp (dx, dy) to what stays inside the scene."""
    axes = zip(gaze.unbind(-1), limit_px, strict=True)
    return torch.stack([along.clamp(-limit, limit) for along, limit in axes], -1)


def _check_counts(batch: int, frames: int, limit_px: tuple[int, int]) -> None:
    _at_least(batch, 0, "batch")
    _at_least(frames, 1, "frames")
    if len(limit_px) != 2 or min(limit_px) < 0:
        raise InputError(f"Expected limit_px as (max_x, max_y) >= 0 in pixels, got {limit_px}.")


def _at_least(value: int, least: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"Expected {name} to be a whole number >= {least}, got {value!r}.")
    return value
