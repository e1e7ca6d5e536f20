# %% [markdown]
# # Time surfaces: how fast does it move?
#
# Three disks cross an event camera at three speeds. A few leaky neurons find out where they are and
# which one is slow, medium and fast.
#
#     python tutorials/time_surfaces.py                        # about a minute on one core
#     python tutorials/time_surfaces.py --frames 60            # a look at every step
#     python tutorials/time_surfaces.py --recording 2404_circle.dat    # your own recording
#
# * An *event* says that a pixel became brighter or darker at some time. There are no pictures.
# * A *time surface* remembers how long ago that was; a *leaky integrator* does nearly the same.
# * A *LIF* neuron is a leaky integrator that fires above a threshold and begins again.
# * A *pathway* chains stages; `simulate.run` takes it through time.

# %%
from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from calcarine import cite, simulate
from calcarine.models import DiskVelocityNet
from calcarine.plot import (
    detection_figure,
    event_animation,
    event_figure,
    image_grid,
    save_animation,
    save_figure,
    velocity_tuning_figure,
)
from calcarine.probes import VelocityTuning, score_detections, velocity_tuning
from calcarine.spiking import LIFBox, spike
from calcarine.stage import DynamicStage, Pathway, Stage
from calcarine.stimuli import EventStream, MovingDisks, moving_disks, read_events

RADIUS = 5.0
SPEEDS = (0.15, 0.2, 0.3, 0.42, 0.6, 0.85, 1.2, 1.7)
BANDS = ((0.21, 0.42), (0.42, 0.85), (0.85, 1.8))
NAMES = ("slow", "medium", "fast")


# %% [markdown]
# ## 1. A recording
#
# The recording is a *sparse* tensor with axes (time, x, y): it lists where the ones are. The
# *dense* tensor of the same shape holds every zero, too, and takes several times the memory. Here
# we make such a file ourselves, 500 frames of 50 x 50 pixels with 5 % noise; `read_events` reads it
# as it would read a file from elsewhere: only a tensor is unpacked, no code in it runs.


# %%
def record(frames: int, out: Path) -> tuple[Path, MovingDisks]:
    """Write a recording as a sparse tensor, and show what sparse and dense mean."""
    made = moving_disks(frames=frames, generator=torch.Generator().manual_seed(0))
    dense = made.events.frames(1.0, steps=frames)[:, 0].clamp(max=1).mT  # (time, x, y)
    sparse = dense.to_sparse()
    out.mkdir(parents=True, exist_ok=True)
    torch.save(sparse, out / "disks.dat")
    listed = sparse.indices().numel() * 8 + sparse.values().numel() * 4
    print(f"sparse: shape {tuple(sparse.shape)}, {sparse.values().numel()} ones listed as columns "
          f"of {tuple(sparse.indices().shape)}, {listed / 1e6:.2f} MB")  # fmt: skip
    print(f"dense:  shape {tuple(dense.shape)}, {dense.numel() * 4 / 1e6:.2f} MB")
    return out / "disks.dat", made


def look(events: EventStream, out: Path) -> Tensor:
    """Draw a recording, film it, and show its time surface; return its frames."""
    print(f"{events}\n")
    save_figure(event_figure(events, title="the recording"), out / "recording.png")
    frames = events.frames(1.0)
    save_animation(event_animation(frames), out / "recording.webp", fps=25)
    middle = events.start_ms + events.duration_ms / 2
    surfaces = [events.time_surface(tau, middle).amax(0) for tau in (2.0, 10.0, 50.0)]
    titles = [f"time surface, tau {tau} ms" for tau in (2, 10, 50)]
    save_figure(image_grid(surfaces, titles=titles, limits=(0, 1)), out / "time_surfaces.png")
    return frames[:, None]  # time, batch, channel, height, width


# %% [markdown]
# ## 2. A kernel that looks for disks
#
# Events come from the outline of a disk, so the kernel is a ring: positive on a circle of radius 5,
# negative inside, where a disk of this size leaves nothing. `conv2d` wants four axes: to channel,
# from channel, rows, columns.


# %%
def circular_kernel(radius: float, width: float = 0.8, inside: float = 0.5) -> Tensor:
    """Return a ring of total weight 1 around a core of total weight ``-inside``."""
    reach = math.ceil(radius + 3 * width)
    along = torch.arange(-reach, reach + 1.0)
    distance = torch.hypot(along[:, None], along)
    ring = torch.exp(-((distance - radius) ** 2) / (2 * width**2))
    core = (distance < radius - 2 * width).float()
    return (ring / ring.sum() - inside * core / core.sum())[None, None]


class Outline(Stage):
    """How much each place looks like the middle of a disk, one copy for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", circular_kernel(RADIUS))

    def forward(self, x: Tensor) -> Tensor:
        """Filter one frame of events (B, 1, H, W) into three equal channels."""
        found = F.conv2d(x, self.kernel, padding=self.kernel.shape[-1] // 2)
        return found.clamp(min=0).expand(-1, 3, -1, -1)


# %% [markdown]
# ## 3. Three temporal channels
#
# A fast disk changes more pixels per frame than a slow one. A neuron that forgets at once
# (tau of one frame) and has a high threshold fires for fast disks only. One that remembers longer
# adds up the few events of a slow disk, whose outline stays in place, and needs a low threshold.
# But it fires for fast disks as well: each channel answers *above* some speed.


# %%
def channels() -> LIFBox:
    """Return three LIF neurons per pixel: slow, medium, fast."""
    return LIFBox(tau_mem_ms=(4.0, 2.0, 1.0), v_th=(0.05, 0.115, 0.24))


# %% [markdown]
# ## 4. Inhibition
#
# What the slow channel has too many are answers where a faster channel fires. So every spike
# silences the slower channels around it, and a leaky trace makes that last for some frames. Now
# each channel answers to a *band* of speeds.


# %%
class Inhibition(DynamicStage):
    """Silence the slower channels within ``reach`` pixels of a spike, for about ``tau`` frames."""

    def __init__(self, tau: float = 8.0, reach: int = 7) -> None:
        super().__init__()
        self.tau, self.reach = tau, reach

    def initial_state(self, like: Tensor) -> Tensor:
        """Return no inhibition."""
        return torch.zeros_like(like)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Let spikes of (B, 3, H, W) pass where no faster channel fired lately."""
        faster = torch.stack([x[:, 1] + x[:, 2], x[:, 2], torch.zeros_like(x[:, 0])], 1)
        near = F.max_pool2d(faster, 2 * self.reach + 1, 1, self.reach).clamp(max=1)
        state = state + (near - state) / self.tau
        return x * (state < 0.1), state


# %% [markdown]
# ## 5. A second layer
#
# What is left lies around the middle of the disks, with stray spikes elsewhere. Neurons with a
# narrow excitatory centre and a wide inhibitory surround keep the middle of a cluster.


# %%
class Centers(DynamicStage):
    """Centre minus surround, then LIF neurons; every channel by itself."""

    def __init__(self) -> None:
        super().__init__()
        along = torch.arange(-6, 7.0)
        distance = torch.hypot(along[:, None], along)
        center, surround = (torch.exp(-(distance**2) / (2 * s**2)) for s in (1.2, 3.0))
        kernel = center - surround * center.sum() / surround.sum()
        self.register_buffer("kernel", kernel[None, None])
        self.neurons = LIFBox(tau_mem_ms=2.0, v_th=0.5)

    def initial_state(self, like: Tensor) -> Any:
        """Return neurons at rest."""
        return self.neurons.initial_state(like)

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Smooth spikes of (B, 3, H, W) and fire."""
        smooth = F.conv2d(x.flatten(0, 1)[:, None], self.kernel, padding=6)
        return self.neurons(smooth.view(x.shape), state)


def networks() -> dict[str, Pathway]:
    """Return the three networks, each with one more stage than the one before."""
    return {
        "three channels": Pathway(outline=Outline(), channels=channels()),
        "with inhibition": Pathway(
            outline=Outline(), channels=channels(), inhibition=Inhibition()
        ),
        "with a second layer": Pathway(
            outline=Outline(), channels=channels(), inhibition=Inhibition(), centers=Centers()
        ),
    }  # fmt: skip


# %% [markdown]
# ## What they answer to
#
# A film shows events in grey, the channels in blue, green and red. The tuning curve counts spikes
# within 4 pixels of a single disk, for eight speeds and a few directions.


# %%
def selectivity(measured: VelocityTuning) -> list[float]:
    """Return the largest response in other channels' bands over that in a channel's own."""
    found = []
    for channel, (low, high) in enumerate(BANDS):
        own = (measured.speeds > low) & (measured.speeds < high)
        other = (measured.speeds > BANDS[0][0]) & ~own
        other &= torch.stack([(measured.speeds - e).abs() > 0.02 for e in (0.42, 0.85)]).all(0)
        response = measured.responses[channel]
        found.append(float(response[other].max() / response[own].max().clamp(min=1e-9)))
    return found


def step_by_step(movie: Tensor, frames: int, seeds: int, out: Path) -> None:
    """Show what each network answers to."""
    for name, net in networks().items():
        spikes, _ = simulate.run(net, movie, engine="plain")
        counts = (spikes.sum((0, 1, 3, 4)) / len(movie)).tolist()
        measured = velocity_tuning(
            net, SPEEDS, seeds=range(seeds), frames=frames, settle=frames // 4, noise=0.0
        )
        outside = selectivity(measured)
        print(f"{name}: " + ", ".join(
            f"{label} {count:.1f} spikes per frame, outside its band {share:.0%}"
            for label, count, share in zip(NAMES, counts, outside, strict=True)
        ))  # fmt: skip
        short = name.replace(" ", "_")
        film = event_animation(movie[:, 0], activity=spikes[:, 0])
        save_animation(film, out / f"{short}.webp", fps=25, title=name)
        figure = velocity_tuning_figure(measured, bands=BANDS, title=name)
        save_figure(figure, out / f"{short}_tuning.png")
    print()


# %% [markdown]
# ## The model that comes with the house
#
# `DiskVelocityNet` goes one step further: it compares leaky integrators with each other, so that
# the number of events per pixel cancels and only the speed remains, and reads a list of disks out
# of the spikes. Its constants come from a closed form, or from learning:
# `calcarine train disk-velocity`.


# %%
def detect(events: EventStream, movie: Tensor, truth: Any, out: Path) -> None:
    """List the disks of every frame."""
    found = DiskVelocityNet().detect(movie[:, 0])
    print(f"DiskVelocityNet: {len(found.frame)} detections in {len(movie)} frames")
    if truth is not None:
        score = score_detections(found, truth)
        print(f"  precision {float(score.precision):.3f}, recall {float(score.recall):.3f}, right "
              f"speed {float(score.speed_accuracy):.3f}")  # fmt: skip
    film = event_animation(movie[:, 0], detections=found)
    save_animation(film, out / "detections.webp", fps=25)
    save_figure(detection_figure(found, truth), out / "detections.png")
    print()


# %% [markdown]
# ## Your own neuron in ten lines
#
# State is a value: `initial_state` makes it, `forward` returns a new one. That is all that
# `simulate.run` needs to go through time, to compile it, and to send gradients back through it.


# %%
class Mine(DynamicStage):
    """A LIF neuron whose threshold rises by ``jump`` at each spike."""

    def __init__(self, decay: float = 0.9, jump: float = 0.2) -> None:
        super().__init__()
        self.decay, self.jump = decay, jump

    def initial_state(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return potential and threshold at rest."""
        return torch.zeros_like(like), torch.ones_like(like)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Take one step: integrate, fire, subtract, adapt."""
        v = self.decay * state[0] + x
        z = spike(v - state[1])
        return z, (v - z * state[1], 1 + self.decay * (state[1] - 1) + self.jump * z)


def own_neuron(steps: int) -> None:
    """Run a neuron of one's own step by step and compiled, with gradients."""
    neuron = Mine()
    drive = torch.full((steps, 1, 8), 0.3, requires_grad=True)
    plain, _ = simulate.run(neuron, drive, engine="plain")
    compiled, _ = simulate.run(neuron, drive, engine="compiled")
    compiled.sum().backward()
    times = plain[:, 0, 0].nonzero().flatten().diff().tolist()
    assert drive.grad is not None
    print(f"my neuron: intervals {', '.join(map(str, times[:6]))} steps: it adapts; compiled and "
          f"plain agree: {torch.equal(plain, compiled)}; gradient {float(drive.grad.sum()):.3g}\n"
          )  # fmt: skip


# %%
def main(arguments: list[str] | None = None) -> None:
    """Go through the whole tutorial."""
    parser = argparse.ArgumentParser(description="Disks, events, leaky neurons and speed.")
    parser.add_argument("--frames", type=int, default=500, help="length of the recording")
    parser.add_argument("--seeds", type=int, default=3, help="directions per speed, two at least")
    parser.add_argument("--recording", type=Path, help="a recording of your own")
    parser.add_argument("--out", type=Path, default=Path("runs/time_surfaces"))
    chosen = parser.parse_args(arguments)
    path, made = record(chosen.frames, chosen.out)
    truth = made.truth if chosen.recording is None else None
    events = read_events(chosen.recording or path, (50, 50) if truth is not None else None)
    movie = look(events, chosen.out)
    if truth is not None:  # the last frame may be without events
        movie = F.pad(movie, (0, 0) * 4 + (0, chosen.frames - len(movie)))
    kernel = circular_kernel(RADIUS)[0]
    figure = image_grid([kernel], limits="auto0", width_in=3.2, titles=["a ring"])
    save_figure(figure, chosen.out / "kernel.png")
    step_by_step(movie, min(chosen.frames, 200), chosen.seeds, chosen.out)
    detect(events, movie, truth, chosen.out)
    own_neuron(min(chosen.frames, 200))
    print(f"Figures and films are in {chosen.out}. Papers to cite:\n")
    print(cite(DiskVelocityNet()))


if __name__ == "__main__":
    main()
