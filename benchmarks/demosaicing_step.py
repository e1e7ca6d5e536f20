"""Time of forward and backward pass of the demosaicing network, with and without its kernel.

    python benchmarks/demosaicing_step.py [--steps 10] [--threads 2]

Both sides have the same weights and inputs: the full cortex, 8 x 256 x 256 cells with widths
16-32-64-128, and the sandbox, 8 x 64 x 64 with 16-32-64. Without the kernel torch operations do the
work (oneDNN). They take turns, so that whatever else the machine does falls on both; wall-clock
times are medians, those of the process (all threads together) minima, which other programs disturb
less. Before that, the distance between both gradients, relative to their size.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from calcarine.cortex import Demosaicing, _reflect_kernel, _upsampling

SIDES = ("kernel", "torch")
CASES = {"full": (256, (16, 32, 64, 128)), "sandbox": (64, (16, 32, 64))}


@contextmanager
def path(side: str) -> Iterator[None]:
    """Let the kernel or torch do the work."""
    modules = _reflect_kernel, _upsampling
    plain = _reflect_kernel.plain
    for module in modules:
        module.plain = plain if side == "kernel" else lambda *given: False
    try:
        yield
    finally:
        for module in modules:
            module.plain = plain


def step(net: Demosaicing, x: Tensor) -> list[float]:
    """Return seconds of the forward and the backward pass: on the wall, then of the process."""
    times = [(time.perf_counter(), time.process_time())]
    y = net(x)
    times.append((time.perf_counter(), time.process_time()))
    y.backward(torch.ones_like(y))
    times.append((time.perf_counter(), time.process_time()))
    return [times[k + 1][clock] - times[k][clock] for clock in (0, 1) for k in (0, 1)]


def compare(name: str, steps: int) -> None:
    """Print times and ratios of one network."""
    size, widths = CASES[name]
    torch.manual_seed(0)
    net, x = Demosaicing(8, widths), torch.randn(8, 8, size, size, requires_grad=True)
    taken, gradients = {side: [] for side in SIDES}, {}
    for index in range(steps + 1):
        for side in SIDES:
            net.zero_grad()
            x.grad = None
            with path(side):
                times = step(net, x)
            if index:
                taken[side].append(times)
            gradients[side] = [x.grad, *(p.grad for p in net.parameters())]
    pairs = zip(*gradients.values(), strict=True)
    off = max(((a - b).norm() / b.norm()).item() for a, b in pairs)
    print(f"\n{name}: 8 x {size} x {size}, {torch.get_num_threads()} threads, {off:.1e} apart")
    rows = {}
    for side in SIDES:
        a, b, c, d = zip(*taken[side], strict=True)
        rows[side] = statistics.median(a), statistics.median(b), min(c) + min(d)
        print(
            f"{side:8s} forward {1e3 * rows[side][0]:8.1f} ms, backward {1e3 * rows[side][1]:8.1f} "
            f"ms, processor {1e3 * rows[side][2]:8.1f} ms a step"
        )
    ratios = [theirs / ours for ours, theirs in zip(*rows.values(), strict=True)]
    print("ratio    forward {:8.2f}   , backward {:8.2f}   , processor {:8.2f}".format(*ratios))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"convolutions: {_reflect_kernel.kernel_status()}")
    compare("full", args.steps)
    compare("sandbox", 10 * args.steps)


if __name__ == "__main__":
    main()
