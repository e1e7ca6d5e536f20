"""Time of local connections and of a learning step of LISSOM and GCAL, on the CPU.

    python benchmarks/local_connection.py [--side 96] [--radius 23] [--batch 1 16] [--models]

All ways of taking the weighted sums run in one process on the same weights, one after another in
turns, so that other work on the machine meets all of them; read the ratios. `strided` multiplies
the weights, squares of (2 radius + 1)^2 per unit, with a strided view of the activity; `sparse` is
torch's CSR matrix; `dense` the full matrix. What they return is compared first. `memory` is what
reading the weights once takes, as a sum over a tensor of that size.

--models adds one step of learning: LISSOM with the seed's sizes (retina and LGN 24 x 24, cortex
96 x 96, nine settling steps), once with typical stimuli and once with every unit active; GCAL with
V1 of 48 x 48 and of 147 x 147 units (density 98, area 1.5). The sheets' activity is sparse, and the
kernel leaves out rows and columns without any, so times depend on the stimulus.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from calcarine.models import Gcal, Lissom
from calcarine.v1 import LocalConnection
from calcarine.v1._local_compiler import kernel_status


def times_ms(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Return the fastest and the median time of every way, taken in turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            if turn:
                taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: (min(each), statistics.median(each)) for name, each in taken.items()}


def strided(connection: LocalConnection) -> Callable[[Tensor], Tensor]:
    """Return the weighted sums as products with a strided view, weights stored as squares."""
    height, width = connection.source
    reach = int(connection.radius)
    side = 2 * reach + 1
    squares = torch.zeros(height, width, side, side)
    units = connection.tables.units()
    columns = connection.tables.columns(width)
    i, j = units // width, units % width
    squares[i, j, columns // width - i + reach, columns % width - j + reach] = connection.weight

    def sums(x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x, [reach] * 4)
        return (padded.unfold(1, side, 1).unfold(2, side, 1) * squares).sum(dim=(-2, -1))

    return sums


def compare(side: int, radius: float, batch: int, repeats: int) -> None:
    """Print the time of every way of taking the sums."""
    connection = LocalConnection((side, side), (side, side), radius)
    rounded = LocalConnection((side, side), (side, side), radius, precision="bfloat16")
    squares = strided(connection)
    sparse = torch.sparse_csr_tensor(
        connection.tables.offsets.int(), connection.tables.columns(side),
        connection.weight.detach(), (side**2, side**2),
    )  # fmt: skip
    dense = connection.dense() if side <= 100 else None
    x = torch.rand(batch, side, side)
    flat, copy = x.flatten(1), connection.weight.detach().clone()
    ways: dict[str, Callable[[], Any]] = {
        "memory": copy.sum,
        "ours": lambda: connection(x),
        "ours, bfloat16 weights": lambda: rounded(x),
        "sparse": lambda: sparse @ flat.T,
    }
    if dense is not None:
        ways["dense"] = lambda: flat @ dense.T
        error = (connection(x).flatten(1) - flat @ dense.T).abs().max().item()
        print(f"\nlargest difference from the dense product {error:.1e}")
    if batch == 1:
        ways["strided"] = lambda: squares(x)
    with torch.no_grad():
        taken = times_ms(ways, repeats)
    print(
        f"{side} x {side} units, radius {radius:g}, {connection.count} weights "
        f"({4 * connection.count / 2**20:.0f} MiB), batch {batch}"
    )
    for name, (best, median) in taken.items():
        print(f"  {name:<24}{best:9.2f} ms  median {median:9.2f}  {best / taken['ours'][0]:6.2f} x")


def bars(model: Gcal | Lissom, count: int) -> Tensor:
    """Return images of `count` bars each."""
    height, width = model.retina_shape
    axis_y, axis_x = torch.arange(height)[:, None], torch.arange(width)[None]
    image = torch.zeros(height, width)
    for _ in range(count):
        y, x, angle = torch.rand(3).mul(torch.tensor([height, width, torch.pi])).tolist()
        c, s = torch.tensor(angle).cos(), torch.tensor(angle).sin()
        along = (axis_x - x) * c + (axis_y - y) * s
        across = (axis_y - y) * c - (axis_x - x) * s
        image = torch.maximum(image, 0.7 * torch.exp(-((along / 7).square() + across.square()) / 2))
    return image[None, None]


def all_active(model: Lissom) -> Callable[[], None]:
    """Return a learning step in which no unit is silent: nothing can be left out."""
    relayed, activity = torch.rand(1, 2, *model.lgn_shape), torch.rand(1, *model.cortex_shape)

    def step() -> None:
        model.v1.drive(relayed)
        for _ in range(model.v1.settling):
            model.v1.lateral.excitatory(activity)
            model.v1.lateral.inhibitory(activity)
        model.v1.hebbian_(relayed, activity)

    return step


def learning(model: Gcal | Lissom, count: int, repeats: int) -> Callable[[], None]:
    """Return a learning step on a fresh stimulus, after thresholds have found their place."""
    for _ in range(60 if isinstance(model, Gcal) else 10):
        model.learn(bars(model, count))
    images = iter([bars(model, count) for _ in range(repeats + 1)])

    def step() -> None:
        model.learn(next(images))

    return step


def models(repeats: int) -> None:
    """Print the time and the memory of learning from one stimulus."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, build, count in (
        ("LISSOM, 96 x 96", Lissom, 2),
        ("GCAL, 48 x 48", Gcal, 2),
        ("GCAL, 147 x 147", lambda: Gcal(98, area=(1.5, 1.5)), 5),
    ):
        model = build()
        weights = sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6
        ways: dict[str, Callable[[], Any]] = {"learn": learning(model, count, repeats)}
        if isinstance(model, Lissom):
            ways["every unit active"] = all_active(model)
        with torch.no_grad():
            taken = times_ms(ways, repeats)
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
        print(f"\n{name}: {weights:.0f} MB of weights, {peak:.0f} MB above the start at most")
        for each, (best, median) in taken.items():
            print(f"  {each:<24}{best:9.2f} ms  median {median:9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--radius", type=float, default=23.0)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--models", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {kernel_status()}")
    if options.models:
        models(options.repeats)
    for batch in options.batch:
        compare(options.side, options.radius, batch, options.repeats)


if __name__ == "__main__":
    main()
