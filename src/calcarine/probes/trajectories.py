"""Trajectories in principal components: the course of an area's activity in a few dimensions.

    x(t, b) = mean + sum_i s_i(t, b) c_i      c_i orthonormal, variance of s_i over (t, b) falls

Activity passes in slabs of time, so that a recording on disk may be larger than memory: one pass
for the mean, then, where there are few units or few samples, one for their covariance or Gram
matrix, whose eigenvectors are exact; else several for subspace iteration from random directions,
which leaves errors far below what a figure shows.

Axes    T time | B batch | n = T B samples | N units of the area | k components | C classes
Source  soo2024 (trajectories of areas); halko2011 (subspace iteration)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError

__all__ = ["Trajectories", "principal_trajectories"]

_EXACT = 2048  # ours: largest matrix whose eigenvectors are computed as a whole
_SLAB_NUMBERS = 2**24  # ours: activities held in memory at a time
_OVERSAMPLED, _PASSES = 10, 6  # ours: further directions and passes of the subspace iteration


@dataclass(frozen=True)
class Trajectories:
    """Activity in principal components.

    Attributes:
        time_ms: Time of every frame.
        scores: Activity along every component.
        components: Unit vectors in the area, most variance first; the sign makes the largest entry
            positive.
        mean: Activity in the middle, mean over time and batch.
        explained: Share of all variance over time and batch that every component explains.
    """

    time_ms: Float[Tensor, " T"]
    scores: Float[Tensor, "T B k"]
    components: Float[Tensor, "k ..."]
    mean: Float[Tensor, "..."]
    explained: Float[Tensor, " k"]

    def by_class(self, labels: Int[Tensor, " B"]) -> Float[Tensor, "T C k"]:
        """Return the mean trajectory of every class; NaN for a class without images.

        Raises:
            ShapeError: If there is not one label per trajectory.
        """
        labels = torch.as_tensor(labels).cpu()
        if labels.shape != self.scores.shape[1:2] or labels.is_floating_point():
            raise ShapeError(
                f"by_class expected one class number for each of {self.scores.shape[1]} "
                f"trajectories, got {labels.dtype} of shape {tuple(labels.shape)}."
            )
        one_hot = torch.nn.functional.one_hot(labels.long()).to(self.scores)
        return torch.einsum("tbk,bc->tck", self.scores, one_hot) / one_hot.sum(0)[:, None]

    def project(self, activity: Float[Tensor, "... N"] | Tensor) -> Float[Tensor, "..."]:
        """Return other activity of the same area in the same components.

        Args:
            activity: Leading axes of any number, then those of the area.

        Raises:
            ShapeError: If the last axes are not those of the area.
        """
        area = self.mean.shape
        lead = activity.shape[: activity.ndim - len(area)]
        if activity.shape[len(lead) :] != area:
            raise ShapeError(
                f"project expected activity whose last axes are {tuple(area)}, got shape "
                f"{tuple(activity.shape)}."
            )
        flat = activity.reshape(*lead, -1).to(self.mean) - self.mean.flatten()
        return flat @ self.components.flatten(1).T


@torch.no_grad()
def principal_trajectories(
    activity: Any,
    components: int = 3,
    *,
    dt_ms: float = 1.0,
    start_ms: float = 0.0,
    seed: int = 0,
) -> Trajectories:
    """Find the directions in which activity over time and images varies most.

    >>> rates = model.trace(images, areas=[2], off_ms=200)[2]
    >>> course = principal_trajectories(rates, dt_ms=2, start_ms=-198)
    >>> course.scores.shape
    torch.Size([300, 8, 3])

    Args:
        activity: Axes (time, batch, ...): a tensor, or an array on disk as a recording returns it;
            or a list of these, one for every batch of images.
        components: How many, at most one less than there are samples, and not more than units.
        dt_ms: Time between two frames.
        start_ms: Time of the first frame.
        seed: Of the random directions, where there are too many units and samples for exact ones.

    Raises:
        ShapeError: If there are fewer than three axes, or batches do not fit together.
        InputError: If there are more components than the activity can have.
        NonFiniteError: If activity is NaN or infinite.
    """
    parts = list(activity) if isinstance(activity, (list, tuple)) else [activity]
    frames, batches, area = _sizes(parts)
    samples, units = frames * sum(batches), int(torch.Size(area).numel())
    if not 1 <= components <= min(samples - 1, units):
        raise InputError(
            f"principal_trajectories expected components within 1..{min(samples - 1, units)} for "
            f"{samples} samples of {units} units, got {components}."
        )

    def slabs() -> Iterator[Tensor]:
        for part, batch in zip(parts, batches, strict=True):
            step = max(1, _SLAB_NUMBERS // (batch * units))
            for start in range(0, frames, step):
                slab = part[start : start + step]
                if not isinstance(slab, Tensor):
                    slab = torch.tensor(slab)  # a copy: an array on disk may not be written to
                yield slab.reshape(-1, units).double()

    mean = sum(slab.sum(0) for slab in slabs()) / samples
    assert isinstance(mean, Tensor)
    if not mean.isfinite().all():
        raise NonFiniteError(
            "principal_trajectories expected finite activity, got NaN or infinity."
        )
    variance = sum((slab - mean).square().sum() for slab in slabs())
    directions = _directions(slabs, mean, samples, units, components, seed)
    scores = torch.cat([(slab - mean) @ directions.T for slab in slabs()])
    explained = scores.square().sum(0) / torch.as_tensor(variance).clamp_min(1e-300)
    by_part = scores.split([frames * batch for batch in batches])
    return Trajectories(
        start_ms + dt_ms * torch.arange(frames, dtype=torch.double),
        torch.cat([one.reshape(frames, -1, components) for one in by_part], 1).cpu(),
        directions.reshape(components, *area).cpu(),
        mean.reshape(area).cpu(),
        explained.cpu(),
    )


def _sizes(parts: list[Any]) -> tuple[int, list[int], list[int]]:
    """Return the number of frames, the sizes of the batches, and the shape of the area."""
    shapes = [tuple(part.shape) for part in parts]
    fits = all(len(shape) >= 3 and 0 not in shape for shape in shapes)
    if not shapes or not fits or len({(shape[0], shape[2:]) for shape in shapes}) != 1:
        raise ShapeError(
            "principal_trajectories expected activity with axes (time, batch, ...), or a list of "
            f"such batches of the same times and area, got shapes {shapes}."
        )
    return shapes[0][0], [shape[1] for shape in shapes], list(shapes[0][2:])


def _directions(
    slabs: Callable[[], Iterator[Tensor]],
    mean: Tensor,
    samples: int,
    units: int,
    components: int,
    seed: int,
) -> Float[Tensor, "k N"]:
    """Return unit vectors of most variance, of a settled sign."""
    if min(samples, units) > _EXACT:
        found = _subspace(slabs, mean, units, components, seed)
    elif units <= samples:
        found = _top(sum((s - mean).T @ (s - mean) for s in slabs()), components)
    else:
        # Eigenvectors u of X X^T lead to those of X^T X by X^T u.
        centred = torch.cat([slab - mean for slab in slabs()])
        found = _orthonormal(centred.T @ _top(centred @ centred.T, components))
    largest = found.gather(0, found.abs().argmax(0, keepdim=True))
    return (found * torch.where(largest < 0, -1.0, 1.0)).T.contiguous()


def _subspace(
    slabs: Callable[[], Iterator[Tensor]], mean: Tensor, units: int, components: int, seed: int
) -> Float[Tensor, "N k"]:
    """Return the leading eigenvectors of X^T X by subspace iteration."""
    draw = torch.Generator().manual_seed(seed)
    start = torch.randn(units, components + _OVERSAMPLED, generator=draw, dtype=mean.dtype)
    basis = start.to(mean.device)
    for _ in range(_PASSES):
        turned = torch.zeros_like(basis)
        for slab in slabs():
            centred = slab - mean
            turned += centred.T @ (centred @ basis)
        basis = torch.linalg.qr(turned).Q
    small = sum(((s - mean) @ basis).T @ ((s - mean) @ basis) for s in slabs())
    return basis @ _top(small, components)


def _top(matrix: Any, components: int) -> Tensor:
    """Return the eigenvectors of the largest eigenvalues of a symmetric matrix as columns."""
    return torch.linalg.eigh(matrix).eigenvectors[:, -components:].flip(1)


def _orthonormal(columns: Tensor) -> Tensor:
    """Return columns of unit length, and something orthonormal in place of those that vanish."""
    q, r = torch.linalg.qr(columns)
    return q * torch.where(r.diagonal() < 0, -1.0, 1.0)
