"""Time to a metamer of the LGN front ends, against plenoptic.

    python benchmarks/metamer.py [--size 256] [--iterations 100] [--models gaussian ...]

Both sides run in one process, in fp32, with the same threads, from the same white noise to the same
photograph, each with its own front end. The peer runs so many iterations of its default optimiser
(Adam, rate 0.01). What its image is worth, and ours, is measured afterwards by one function: the
mean squared error of the peer's front end in fp64, and the penalty on values outside [0, 1]. Ours
runs until it undercuts the peer's loss alone, which it does before its pixels are back in their
range, and until it undercuts the peer's objective, loss + 0.1 penalty. Sides take turns; medians
over the repeats, making the probe included.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from peers import MODELS, describe_machine, front_ends, peer_module, photograph, quiet
from torch import Tensor, nn

from calcarine.probes import Metamer, mse, range_penalty

Result = tuple[Tensor, int, str]

_WEIGHT = 1.0  # of our penalty where the peer's objective, which weighs it heavily, is the goal


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def run_peer(image: Tensor, model: nn.Module, start: Tensor, iterations: int) -> Result:
    """Return the peer's image, iterations and no status."""
    with quiet():
        made = peer_module().Metamer(image, model)
        made.setup(initial_image=start)
        made.synthesize(max_iter=iterations, stop_criterion=0.0)
    return made.metamer.detach(), len(made.losses) - 1, ""


def run_ours(
    image: Tensor, model: nn.Module, start: Tensor, tolerance: float, weight: float = 0.1
) -> Result:
    """Return our image, iterations and status."""
    made = Metamer(image, model, initial=start, penalty_weight=weight)
    made.synthesize(max_iter=5000, tolerance=tolerance, progress=False)
    return made.metamer.detach(), made.iterations, made.status


def compare(name: str, size: int, iterations: int, repeats: int, batch: int) -> None:
    """Print the lines of one front end."""
    theirs, ours = front_ends(name)
    image = photograph(size).expand(batch, -1, -1, -1).contiguous()
    start = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    difference = float((theirs(image) - ours(image)).abs().max())
    print(f"\n{name}: batch {batch}, largest difference of the responses {difference:.1e}")
    judge = copy.deepcopy(theirs).double()

    def loss(found: Tensor) -> float:
        return float(mse(judge(found.double()), judge(image.double())).mean())

    def objective(found: Tensor) -> float:
        return loss(found) + 0.1 * float(range_penalty(found).mean())

    peer_found = run_peer(image, theirs, start, iterations)[0]
    peer_loss, peer_objective = loss(peer_found), objective(peer_found)
    enough = 0.99 * peer_loss
    # Our tolerance bounds loss and weighted penalty; which one means the peer's objective is found
    # out before anything is timed.
    while objective(run_ours(image, ours, start, enough, _WEIGHT)[0]) > peer_objective:
        enough /= 2
    contestants: dict[str, Callable[[], Result]] = {
        f"peer, {iterations} iterations": lambda: run_peer(image, theirs, start, iterations),
        "ours, to the peer's loss": lambda: run_ours(image, ours, start, 0.99 * peer_loss),
        "ours, to the peer's objective": lambda: run_ours(image, ours, start, enough, _WEIGHT),
        "ours, to 1e-10": lambda: run_ours(image, ours, start, 1e-10),
    }
    times: dict[str, list[float]] = {label: [] for label in contestants}
    results: dict[str, Result] = {}
    for _ in range(repeats):
        for label, work in contestants.items():
            seconds, results[label] = timed(work)
            times[label].append(seconds)
    medians = {label: statistics.median(taken) for label, taken in times.items()}
    peer_seconds = next(iter(medians.values()))
    print(f"{'':30s}{'seconds':>9s}{'ratio':>8s}{'iterations':>12s}{'loss':>10s}{'penalty':>10s}")
    for label, (found, count, status) in results.items():
        penalty = float(range_penalty(found).mean())
        print(
            f"{label:30s}{medians[label]:9.3f}{peer_seconds / medians[label]:8.1f}{count:12d}"
            f"{loss(found):10.1e}{penalty:10.1e}  {status}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="side of the image in pixels")
    parser.add_argument("--iterations", type=int, default=100, help="of the peer")
    parser.add_argument("--repeats", type=int, default=3, help="the median counts")
    parser.add_argument("--batch", type=int, default=1, help="metamers synthesised at once")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    chosen = parser.parse_args()
    print(describe_machine())
    for name in chosen.models:
        compare(name, chosen.size, chosen.iterations, chosen.repeats, chosen.batch)


if __name__ == "__main__":
    main()
