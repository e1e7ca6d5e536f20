"""Time and memory of spiking neurons over a movie, on the CPU.

    python benchmarks/spiking.py [--steps 1000] [--batch 64] [--units 512] [--threads 2]

All ways run in one process, one after another in turns, so that other work on the machine meets
all of them; read the ratios, which compare best times. `scan` is the fused pass of LIFBox, `user`
a neuron of ten lines through compiled chunks, `plain` LIFBox step by step and `snntorch` a loop
over its Leaky neuron; both loops keep every step for the way back. `memory` is a copy of the movie.
Backward starts from a gradient at every step. The memory of one forward and backward pass is the
highest resident size of a fresh process, less what it held before, in sizes of the input.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from calcarine import simulate
from calcarine.spiking import LIFBox, spike
from calcarine.spiking._scan import kernel_status
from calcarine.stage import DynamicStage


class State(NamedTuple):
    """Potential."""

    v: Tensor


class UserNeuron(DynamicStage):
    """Leaky integrate-and-fire as a user would write it."""

    def initial_state(self, like: Tensor) -> State:
        """Start at 0."""
        return State(torch.zeros_like(like))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Integrate, fire, reset."""
        v = state.v + 0.1 * (x - state.v)
        z = spike(v - 1.0)
        return z, State((1 - z) * v)


def snntorch_loop() -> Callable[[Tensor], Tensor] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import snntorch
    except ImportError:
        return None
    neuron = snntorch.Leaky(beta=0.9, reset_mechanism="zero")

    def run(movie: Tensor) -> Tensor:
        potential, outs = torch.zeros_like(movie[0]), []
        for frame in movie:
            z, potential = neuron(0.1 * frame, potential)
            outs.append(z)
        return torch.stack(outs)

    return run


def ways() -> dict[str, Callable[[Tensor], Tensor]]:
    """Return every way of going through a movie."""
    box, user = LIFBox(), UserNeuron()
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "scan": lambda x: simulate.run(box, x)[0],
        "user": lambda x: simulate.run(user, x, engine="compiled")[0],
        "user, 100-step segments": lambda x: simulate.run(
            user, x, engine="plain", checkpoint_steps=100
        )[0],
        "plain": lambda x: simulate.run(box, x, engine="plain")[0],
    }
    peer = snntorch_loop()
    return found if peer is None else {**found, "snntorch": peer}


def learn(way: Callable[[Tensor], Tensor], movie: Tensor, grad: Tensor) -> None:
    way(movie.detach().requires_grad_()).backward(grad)


def best(tasks: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the shortest time of each task, s, taken in turns after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: min(each) for name, each in taken.items()}


def show(title: str, taken: dict[str, float]) -> None:
    print(f"\n{title}")
    for name, seconds in taken.items():
        print(f"  {name:<26}{seconds:9.4f} s  {seconds / taken['scan']:8.2f} x scan")


def peak() -> float:
    """Return the highest resident size of this process so far, bytes."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return 1024.0 * int(found[1]) if found else float("nan")


def measure_memory(name: str, shape: tuple[int, int, int]) -> None:
    """Print the memory of one pass, in sizes of the input; for a fresh process."""
    way = ways()[name]
    small = torch.rand(60, *shape[1:])
    learn(way, small, torch.ones_like(small))
    before = peak()
    movie = torch.rand(shape)
    learn(way, movie, torch.rand(shape))
    print((peak() - before) / (4 * movie.numel()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--units", type=int, default=512)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = (options.steps, options.batch, options.units)
    if options.memory_of:
        measure_memory(options.memory_of, shape)
        return
    load = os.getloadavg()[0]
    print(f"torch {torch.__version__}, {options.threads} threads, load {load:.1f}")
    print(f"spike kernel: {kernel_status()}")
    torch.manual_seed(0)
    movie, grad = 3 * torch.rand(shape), torch.rand(shape)
    found = ways()
    with torch.no_grad():
        tasks = {name: lambda way=way: way(movie) for name, way in found.items()}
        show("forward", best({**tasks, "memory": movie.clone}, options.repeats))
    both = {name: lambda way=way: learn(way, movie, grad) for name, way in found.items()}
    show("forward and backward", best(both, options.repeats))
    if not Path("/proc/self/status").is_file():
        return
    print("\nmemory of forward and backward, in sizes of the input")
    for name in found:
        command = [sys.executable, __file__, "--memory-of", name]
        command += [f"--{each}={getattr(options, each)}" for each in ("steps", "batch", "units")]
        done = subprocess.run(
            [*command, f"--threads={options.threads}"], capture_output=True, text=True, check=True
        )
        print(f"  {name:<26}{float(done.stdout):9.2f}")


if __name__ == "__main__":
    main()
