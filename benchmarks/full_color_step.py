"""Time of one update of the full colour cortex, against the published arrangement.

    python benchmarks/full_color_step.py [--size 256] [--batch 8] [--steps 5]

Both sides start from the same weights and see the same optic-nerve signals: two fixations behind a
fovea. The published arrangement runs with the default layout of its U-Net, and with the one that is
fastest on the CPU. Ours runs in fp32 as published, in fp32 with several hypotheses on twice the
pixels of the field, and the same with the products of the U-Net in bf16. A step is the prediction
error with inhibition, positions and movement, its gradient and Adam. They take turns, so that
whatever else the machine does falls on all. Times are wall-clock and those of the process, all
threads together. Peak memory (--memory) is all that a process takes which makes the steps of one
side only, what importing and the signals take included. The U-Net's share is the time of its own
way forward and back, in turns with the steps.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import time
from functools import partial

import torch
import torch.nn.functional as F
from published_full_color_step import PublishedFullCortex

from calcarine.color import ConeSpace
from calcarine.models import ColorVision
from calcarine.retina import Retina
from calcarine.stimuli import ImagePatches
from calcarine.training.precision import multiply_in

WIDTHS = (16, 32, 64, 128)


def pair(size: int) -> tuple[PublishedFullCortex, ColorVision]:
    """Return both sides with the same weights, with positions that are no regular lattice."""
    torch.manual_seed(0)
    theirs = PublishedFullCortex(size)
    for block in theirs.flow:
        torch.nn.init.normal_(block.hyper[-1].weight, std=0.01)
    theirs.kernel.data[3, 2:5] += torch.tensor([-0.1, 0.0, -0.15])
    theirs.identity.data.normal_()
    ours = full_cortex(size, "published", size)
    copy_weights(theirs, ours)
    return theirs, ours


def full_cortex(size: int, movement: str, field_px: int) -> ColorVision:
    """Return our cortex with everything learned; positions by the published map."""
    return ColorVision(
        size=size, widths=WIDTHS, inhibition="learned", positions="published", movement=movement,
        field_px=field_px,
    )  # fmt: skip


def copy_weights(theirs: PublishedFullCortex, ours: ColorVision) -> None:
    """Give our cortex the published arrangement's weights."""
    ours.inhibition.weights.data.copy_(theirs.kernel)
    ours.identity.vectors.data.copy_(theirs.identity[0])
    ours.positions.couplings.load_state_dict(theirs.flow.state_dict())
    net, unet = ours.demosaicing, theirs.unet
    levels = zip([*net.down, *net.join], [*unet.down, *unet.join], strict=True)
    for level, published in levels:
        level.first.weight.data.copy_(published[0].weight)
        level.second.weight.data.copy_(published[2].weight)
    for a, b in zip([*net.up, net.readout], [*unet.up, unet.leave], strict=True):
        a.load_state_dict(b.state_dict())


def signals(size: int, batch: int) -> torch.Tensor:
    """Return two fixations over photographs behind a fovea with lateral inhibition."""
    eye, generator, space = Retina(size), torch.Generator().manual_seed(0), ConeSpace()
    images = ImagePatches(size=eye.scene_size // 2, scales=(1.0,)).draw(batch, generator)
    images = F.interpolate(images, scale_factor=2, mode="bilinear").clamp(0, 1)
    with torch.no_grad():
        return eye(space.linear_to_cones(space.srgb_to_linear(images)), generator).optic_nerve


def stepper(model: torch.nn.Module, loss):
    """Return a function that does one update."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.0)  # the weights stay the same

    def step() -> float:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        optimiser.step()
        return value.item()

    return step


def contestants(size: int, batch: int):
    """Return every side's step by name."""
    nerve = signals(size, batch)
    theirs, ours = pair(size)
    searching = full_cortex(size, "estimated", 2 * size)
    searching.load_state_dict(ours.state_dict())
    tuned = copy.deepcopy(theirs).side_by_side()
    return {
        "published": stepper(theirs, lambda: theirs.loss(nerve[:, :1], nerve[:, 1:])),
        "channels last": stepper(tuned, lambda: tuned.loss(nerve[:, :1], nerve[:, 1:])),
        "calcarine": stepper(ours, lambda: ours.loss(nerve)),
        "hypotheses": stepper(searching, lambda: searching.loss(nerve)),
        "bf16": stepper(searching, lambda: in_bf16(searching, nerve)),
        **unets(theirs.unet, tuned.unet, ours.demosaicing, torch.randn(batch, 8, size, size)),
    }


def unets(theirs: torch.nn.Module, tuned: torch.nn.Module, ours: torch.nn.Module, x: torch.Tensor):
    """Return the way forward and back of every side's U-Net alone, by name."""
    # Each side's cells inject their signals in the layout of their identities.
    plain, inner = x.requires_grad_(), x.detach().contiguous(memory_format=torch.channels_last)

    def fill_in(net: torch.nn.Module, x: torch.Tensor) -> float:
        value = net(x).square().mean()
        value.backward()
        return value.item()

    return {
        "published U-Net": partial(fill_in, theirs, plain),
        "channels last U-Net": partial(fill_in, tuned, plain),
        "calcarine U-Net": partial(fill_in, ours, inner.requires_grad_()),
    }


def in_bf16(cortex: ColorVision, nerve: torch.Tensor) -> torch.Tensor:
    """Return the prediction error with the products of the U-Net in bf16, as precision: auto."""
    with multiply_in("bf16", nerve.device):
        prediction = cortex.predict(nerve)
    return cortex.prediction_loss(prediction, nerve)


def memory(side: str, size: int, batch: int) -> float:
    """Peak memory of a process that makes a few steps of one side, GiB."""
    command = [sys.executable, __file__, "--memory-of", side, "--size", str(size)]
    shown = subprocess.run(
        [*command, "--batch", str(batch)], capture_output=True, text=True, check=True
    )
    return float(shown.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="measure it, too")
    parser.add_argument("--memory-of", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    # Before this process grows: what it takes would count for the processes it starts.
    names = ("published", "calcarine", "hypotheses", "bf16") if args.memory else ()
    for name in names:
        print(f"{name:19s} peak memory {memory(name, args.size, args.batch):.2f} GiB", flush=True)
    sides = contestants(args.size, args.batch)
    if args.memory_of:
        for _ in range(2):
            sides[args.memory_of]()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    times = {name: ([], []) for name in sides}
    for index in range(args.steps + 1):
        for name, step in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            loss = step()
            if index:
                times[name][0].append(time.perf_counter() - wall)
                times[name][1].append(time.process_time() - cpu)
            else:
                print(f"{name:19s} loss {loss:.6g}")
    print(f"threads {torch.get_num_threads()}, {args.size} x {args.size} cells, batch {args.batch}")
    medians = {name: [statistics.median(t) for t in taken] for name, taken in times.items()}
    for name, (wall, cpu) in medians.items():
        side = name.removesuffix(" U-Net")
        if side == name:
            base = medians["published"]
            told = f"ratio {base[0] / wall:5.2f}, {base[1] / cpu:5.2f}"
        else:
            told = f"share {wall / medians[side][0]:5.0%}, {cpu / medians[side][1]:5.0%}"
        print(f"{name:19s} {wall:6.2f} s, {cpu:6.2f} s of processor; {told}", flush=True)


if __name__ == "__main__":
    main()
