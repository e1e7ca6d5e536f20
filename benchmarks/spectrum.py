"""Time of leading eigenvalues of the largest area of CordsNet-R8 against SciPy's ARPACK.

    python benchmarks/spectrum.py [--k 6] [--rounds 1] [--side 56] [--no-peer] [--threads 2]

The operators are the recurrent convolution of 64 channels x 56 x 56 units (200704 components) and
the Jacobian of a step of that area, at a state where about half of the units are above threshold.
Weights are those that a network is made with, and those with gains 0.2 + 0.6 u and directions of
normal noise. SciPy works on the same products, in double precision, to the same residual of 1e-5;
it takes minutes where other programs run, so it is asked once, for the first of the operators.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import torch
from peers import describe_machine
from torch import Tensor

from calcarine.cortex import RecurrentArea
from calcarine.errors import CalcarineWarning
from calcarine.probes.spectrum import Spectrum, leading_eigenvalues, linearised


def areas(side: int) -> dict[str, RecurrentArea]:
    """Return areas with both kinds of weights."""
    torch.manual_seed(0)
    fresh, published = (RecurrentArea(size=(side, side)) for _ in range(2))
    weight = published.recurrent.parametrizations.weight
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        weight.original0.copy_(0.2 + 0.6 * torch.rand(64, 1, 1, 1, generator=generator))
        weight.original1.copy_(torch.randn(64, 64, 3, 3, generator=generator))
    found = {"as made": fresh, "gains 0.2 to 0.8": published}
    for area in found.values():
        area.eval().requires_grad_(False)
    return found


def operators(area: RecurrentArea) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the recurrent convolution and the Jacobian of a step at a settled state."""
    weights = area.folded()
    shape = (1, *weights.bias.shape)
    fed = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(2))
    r = torch.zeros(shape)
    for _ in range(100):
        r = weights.step(r, fed)

    def convolution(x: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x, weights.recurrent, padding=1)

    return {
        "convolution": convolution,
        "Jacobian": linearised(lambda r: weights.step(r, fed), r),
    }


def timed(
    operator: Callable[[Tensor], Tensor], shape: tuple[int, ...], rounds: int, **options: object
) -> str:
    """Return the shortest time, products and residual as words."""
    best, found = float("inf"), None
    for _ in range(rounds):
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CalcarineWarning)
            found = leading_eigenvalues(operator, shape, **options)  # type: ignore[arg-type]
        best = min(best, time.perf_counter() - start)
    assert isinstance(found, Spectrum)
    scale = float(found.values.abs().max())
    return (
        f"{best:7.1f} s {found.products:5d} products  residual {float(found.residuals.max()):.0e}  "
        f"radius {scale:.5f}  {found.status}"
    )


def one_product(operator: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> float:
    """Return the shortest time of a product, ms."""
    x, best = torch.randn(shape), float("inf")
    for _ in range(20):
        start = time.perf_counter()
        operator(x)
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", type=int, default=56)
    parser.add_argument("--no-peer", action="store_true", help="leave SciPy out")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{describe_machine()}, {options.threads} threads")
    shape, peer = (1, 64, options.side, options.side), not options.no_peer
    for kind, area in areas(options.side).items():
        for name, operator in operators(area).items():
            print(f"{name}, weights {kind}: {one_product(operator, shape):.1f} ms per product")
            ours = timed(operator, shape, options.rounds, k=options.k, method="arnoldi")
            print(f"  calcarine {ours}", flush=True)
            if peer:
                theirs = {"k": options.k, "method": "arpack", "tolerance": 1e-5}
                print(f"  ARPACK    {timed(operator, shape, 1, **theirs)}", flush=True)
                peer = False
    print(describe_machine())


if __name__ == "__main__":
    main()
