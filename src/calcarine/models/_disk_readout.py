"""From spikes of the disk network to a list of disks per frame.

    peaks       local maxima of the blurred spikes of a frame, all channels together
    tracks      nearest peak within a gate; place and velocity by an alpha-beta filter
    class       the channel with the most spikes on the track, leaky sum over tau frames
    confidence  share of that channel in the leaky sum

Pooling over time is causal: a frame's list depends on this and earlier frames only.

Axes    T time | 3 channels slow, medium, fast | H W rows down, columns right
Source  ours
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Detections", "DiskReadout"]

MERGE_PX = 3.0


class Detections(NamedTuple):
    """One row per disk and frame, in the order of frames.

    Attributes:
        frame: Number of the frame.
        x: Column of the centre, px.
        y: Row of the centre, px.
        speed_class: 0 slow, 1 medium, 2 fast.
        confidence: Share of the class in the track's spikes, in [0, 1].
    """

    frame: Int[Tensor, " N"]
    x: Float[Tensor, " N"]
    y: Float[Tensor, " N"]
    speed_class: Int[Tensor, " N"]
    confidence: Float[Tensor, " N"]


@dataclass
class _Track:
    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0
    votes: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    hits: float = 1.0
    missed: int = 0
    age: int = 1
    sure: bool = False


@dataclass(frozen=True)
class DiskReadout:
    """Read a list of disks out of spikes.

    Args:
        lag_steps: How far in frames spikes are behind the disk; places are moved ahead by it.
        gate_px: Largest distance from a track to its next peak. Ours.
        tau_votes: Memory of the class, frames. Ours.
        tau_hits: Memory of how often a track was confirmed, frames. Ours.
        confirm: Leaky sum of confirmations from which a track is listed. Ours.
        patience: Frames without a peak after which a track ends. Ours.
        separation_px: Smallest distance of two peaks. Ours: somewhat less than a radius of 5.
    """

    lag_steps: float = 1.0
    gate_px: float = 4.0
    tau_votes: float = 40.0
    tau_hits: float = 5.0
    confirm: float = 2.2
    patience: int = 8
    separation_px: int = 5

    def __call__(self, spikes: Float[Tensor, "T 3 H W"]) -> Detections:
        """Return the disks of every frame."""
        peaks = _peaks(spikes.detach().cpu(), self.separation_px)
        tracks: list[_Track] = []
        rows: list[tuple[float, ...]] = []
        for frame, found in enumerate(peaks):
            tracks = self._advance(tracks, found)
            rows += [(frame, *self._row(t)) for t in tracks if t.sure and t.missed <= 5]
        table = torch.tensor(rows, dtype=torch.double).reshape(-1, 5)
        frame_, x, y, speed_class, confidence = table.unbind(1)
        return Detections(frame_.long(), x, y, speed_class.long(), confidence)

    def _row(self, track: _Track) -> tuple[float, ...]:
        total = sum(track.votes)
        best = max(range(3), key=track.votes.__getitem__)
        x, y = track.x + self.lag_steps * track.vx, track.y + self.lag_steps * track.vy
        return x, y, best, track.votes[best] / max(total, 1e-12)

    def _advance(self, tracks: list[_Track], found: list[list[float]]) -> list[_Track]:
        """Let every track go on by one frame; unmatched peaks begin tracks."""
        for track in tracks:
            if track.missed:  # it may have turned back
                track.vx, track.vy = 0.7 * track.vx, 0.7 * track.vy
            track.x, track.y = track.x + track.vx, track.y + track.vy
            track.hits *= 1 - 1 / self.tau_hits
            track.missed += 1
        pairs = sorted(
            (math.hypot(t.x - p[0], t.y - p[1]) - 2.0 * t.sure, i, j)
            for i, t in enumerate(tracks)
            for j, p in enumerate(found)
            if math.hypot(t.x - p[0], t.y - p[1]) <= self.gate_px + min(t.missed - 1, 4)
        )
        used_tracks, used_peaks = set(), set()
        for _, i, j in pairs:
            if i not in used_tracks and j not in used_peaks:
                used_tracks.add(i)
                used_peaks.add(j)
                self._match(tracks[i], found[j])
        kept = [t for t in _distinct(tracks) if t.missed <= (self.patience if t.sure else 4)]
        for j, (x, y, *votes) in enumerate(found):
            near = any(math.hypot(t.x - x, t.y - y) < self.gate_px for t in kept)
            if j not in used_peaks and not near:
                kept.append(_Track(x, y, votes=votes))
        return kept

    def _match(self, track: _Track, peak: list[float]) -> None:
        dx, dy = peak[0] - track.x, peak[1] - track.y
        track.x, track.y = track.x + 0.5 * dx, track.y + 0.5 * dy
        track.vx, track.vy = track.vx + 0.1 * dx, track.vy + 0.1 * dy
        total = max(sum(peak[2:]), 1e-12)
        track.age += 1
        # Young tracks forget fast: integrators that are still filling tell too high a speed.
        keep = 1 - max(1 / self.tau_votes, 3 / (track.age + 3))
        track.votes = [keep * v + n / total for v, n in zip(track.votes, peak[2:], strict=True)]
        track.hits, track.missed = track.hits + 1, 0
        track.sure = track.sure or track.hits > self.confirm


def _distinct(tracks: list[_Track]) -> list[_Track]:
    """Leave out tracks without a peak on top of one with: two tracks would share one disk."""
    held = [t for t in tracks if not t.missed]
    return [
        t
        for t in tracks
        if not t.missed or all(math.hypot(t.x - h.x, t.y - h.y) > MERGE_PX for h in held)
    ]


def _peaks(spikes: Float[Tensor, "T 3 H W"], separation: int) -> list[list[list[float]]]:
    """Return x, y and spikes by channel of every peak of every frame."""
    along = torch.arange(-4, 5, dtype=spikes.dtype)
    bell = torch.exp(-(along[:, None] ** 2 + along**2) / (2 * 1.5**2))[None, None]
    total = spikes.sum(1, keepdim=True)
    smooth = F.conv2d(total, bell, padding=4)
    strongest = F.max_pool2d(smooth, 2 * separation + 1, 1, separation)
    t, _, row, column = torch.nonzero((smooth == strongest) & (smooth > 0.5), as_tuple=True)
    near = (along[:, None] ** 2 + along**2 <= 9).to(spikes)[None, None]
    weights = torch.cat([near, near * along, near * along[:, None]])
    mass, right, down = F.conv2d(total, weights, padding=4)[t, :, row, column].unbind(1)
    votes = F.conv2d(spikes.flatten(0, 1)[:, None], near, padding=4).view(spikes.shape)
    mass = mass.clamp(min=1e-12)
    table = [column + right / mass, row + down / mass, *votes[t, :, row, column].unbind(1)]
    found: list[list[list[float]]] = [[] for _ in range(len(spikes))]
    for frame, values in zip(t.tolist(), torch.stack(table, 1).tolist(), strict=True):
        found[frame].append(values)
    return found
