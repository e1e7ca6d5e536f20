"""How good a list of detections is: precision, recall, and accuracy of the speed class.

In every frame detections and disks are paired one to one, as many pairs as there can be within the
tolerance, at the least total distance (the Hungarian method).

    precision       pairs / detections
    recall          pairs / visible disks
    speed_accuracy  pairs of the right class / pairs

A disk that is only partly on the sensor is no miss, and a detection paired with it is not counted.

Axes    N disks | rows one detection each
Source  kuhn1955 (pairing); ours: what is counted
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from calcarine.errors import InputError
from calcarine.models.disk_velocity import Detections
from calcarine.stimuli.moving_disks import DiskTruth

__all__ = ["DetectionScore", "score_detections"]


class DetectionScore(NamedTuple):
    """Scores of a recording; NaN where there was nothing to count.

    Attributes:
        precision: Share of detections that are disks.
        recall: Share of visible disks that were detected.
        speed_accuracy: Share of detected disks whose class is right.
        distance_px: Mean distance of a detected disk from its detection.
        confusion: Detected disks by true class (rows) and class told (columns).
        missed: Visible disks that were not detected, by true class.
        spurious: Number of detections without a disk.
    """

    precision: float
    recall: float
    speed_accuracy: float
    distance_px: float
    confusion: Int[Tensor, "3 3"]
    missed: Int[Tensor, " 3"]
    spurious: int


def score_detections(
    detections: Detections,
    truth: DiskTruth,
    tolerance_px: float = 3.0,
    *,
    skip_frames: int = 0,
) -> DetectionScore:
    """Compare detections with the truth.

    Args:
        detections: What a model listed.
        truth: What there was.
        tolerance_px: Largest distance of a detection from the disk's centre.
        skip_frames: First frames that are not counted.

    Raises:
        InputError: If the tolerance is not positive, a place is not finite, or a detection belongs
            to a frame that the truth does not have.
    """
    frames, disks = truth.visible.shape
    _check(detections, tolerance_px, frames)
    rows: list[list[tuple[float, float, int]]] = [[] for _ in range(frames)]
    columns = (detections.frame, detections.x, detections.y, detections.speed_class)
    for frame, x, y, told in zip(*(c.tolist() for c in columns), strict=True):
        rows[frame].append((x, y, told))
    centers, visible = truth.center_px.tolist(), truth.visible.tolist()
    classes = truth.speed_class.tolist()
    confusion, missed = torch.zeros(3, 3, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    spurious, distances = 0, []
    for frame in range(skip_frames, frames):
        found = rows[frame]
        pairs = _pairs(found, centers[frame], tolerance_px)
        spurious += len(found) - len(pairs)
        for row, disk, distance in pairs:
            if visible[frame][disk]:
                confusion[classes[disk], found[row][2]] += 1
                distances.append(distance)
        taken = {disk for _, disk, _ in pairs}
        for disk in range(disks):
            missed[classes[disk]] += visible[frame][disk] and disk not in taken
    hits, lost = int(confusion.sum()), int(missed.sum())
    return DetectionScore(
        _share(hits, hits + spurious),
        _share(hits, hits + lost),
        _share(int(confusion.trace()), hits),
        _share(sum(distances), hits),
        confusion,
        missed,
        spurious,
    )


def _share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


def _pairs(
    found: Sequence[tuple[float, float, int]], centers: Sequence[Sequence[float]], tolerance: float
) -> list[tuple[int, int, float]]:
    """Return detection, disk and distance of every pair."""
    if not found or not centers:
        return []
    from scipy.optimize import linear_sum_assignment

    apart = [[math.hypot(x - cx, y - cy) for cx, cy in centers] for x, y, _ in found]
    # A pair out of reach costs more than any number of pairs within it, so more pairs come first.
    beyond = 1e3 * tolerance
    cost = [[d if d <= tolerance else beyond for d in row] for row in apart]
    chosen = zip(*linear_sum_assignment(cost), strict=True)
    return [(int(i), int(k), apart[i][k]) for i, k in chosen if apart[i][k] <= tolerance]


def _check(detections: Detections, tolerance_px: float, frames: int) -> None:
    if not tolerance_px > 0:
        raise InputError(f"score_detections expected tolerance_px > 0, got {tolerance_px}.")
    if not (detections.x.isfinite() & detections.y.isfinite()).all():
        raise InputError("score_detections expected finite places x and y; a detection has none.")
    frame = detections.frame
    if len(frame) and not 0 <= int(frame.min()) <= int(frame.max()) < frames:
        raise InputError(
            f"score_detections expected frames 0 to {frames - 1}, as the truth has them, got "
            f"{int(frame.min())} to {int(frame.max())}. Score the recording the truth belongs to."
        )
