"""Time to the eigendistortions of the LGN front ends, against plenoptic's power iteration.

    python benchmarks/eigendistortion.py [--size 256] [--iterations 30] [--models gaussian ...]

Both sides run in one process, in fp32, with the same threads, on the same grey photograph and on
front ends of equal parameters (31 x 31 kernels, circular padding) whose responses are compared
first. The peer runs its iterations at both ends. What its vectors are worth, and ours, is measured
afterwards in fp64 with our products: ||F v - lambda v|| relative to the largest eigenvalue. Ours
then runs to residuals equal or better at both ends, and to 1e-3. All times include making the
probe, with the checks of the model. Needs plenoptic 2 (the package, not a part of calcarine).
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from peers import MODELS, describe_machine, front_ends, peer_module, photograph, quiet
from torch import Tensor, nn

from calcarine.probes import Eigendistortion
from calcarine.probes.fisher import FisherProduct


def run_peer(image: Tensor, model: nn.Module, iterations: int) -> tuple[float, Tensor]:
    """Return seconds and the two vectors of the peer."""
    probe = peer_module().Eigendistortion
    began = time.perf_counter()
    with quiet():
        made = probe(image, model)
        made.synthesize(method="power", max_iter=iterations, stop_criterion=0.0)
    return time.perf_counter() - began, made.eigendistortions.detach()


def run_ours(image: Tensor, model: nn.Module, **settings: Any) -> tuple[float, Eigendistortion]:
    began = time.perf_counter()
    made = Eigendistortion(image, model).synthesize(progress=False, **settings)
    return time.perf_counter() - began, made


def judge(image: Tensor, model: nn.Module, vectors: Tensor, top: float) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and relative residuals in fp64; ``top`` is the largest eigenvalue."""
    fisher = FisherProduct(model.double(), image.double())
    vectors = vectors.double().reshape(1, len(vectors), -1)
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    images = fisher(vectors)
    values = (vectors * images).sum(-1)
    residuals = (images - values[..., None] * vectors).norm(dim=-1) / top
    model.float()
    return values[0], residuals[0]


def compare(name: str, image: Tensor, iterations: int, repeats: int) -> None:
    """Print the lines of one front end."""
    theirs, ours = front_ends(name)
    difference = float((theirs(image) - ours(image)).abs().max())
    print(f"\n{name}: largest difference of the responses {difference:.1e}")
    _, sharp = run_ours(image, ours, tolerance=1e-5)  # also warms up
    top = float(sharp.eigenvalues[0])
    print(f"{'':36s}{'seconds':>9s}{'ratio':>8s}   {'lambda / lambda_max':24s}residuals")
    seconds, vectors = run_peer(image, theirs, iterations)
    values, residuals = judge(image, ours, vectors, top)

    def line(label: str, taken: float, values: Tensor, residuals: Tensor) -> None:
        shown = "  ".join(f"{v / top:10.3e}" for v in values.tolist())
        errors = "  ".join(f"{r:8.1e}" for r in residuals.tolist())
        print(f"{label:36s}{taken:9.3f}{seconds / taken:8.1f}   {shown:24s}{errors}")

    line(f"peer, {iterations} + {iterations} power iterations", seconds, values, residuals)
    equal = float(residuals.min())
    for label, settings in (
        ("ours, to the better peer residual", {"tolerance": equal}),
        ("ours, to 1e-3", {"tolerance": 1e-3}),
        ("ours, to 1e-5", {"tolerance": 1e-5}),
        ("ours, power iteration, as many", {"method": "power", "max_iter": iterations,
                                            "tolerance": 1e-12}),
    ):  # fmt: skip
        runs = [run_ours(image, ours, **settings) for _ in range(repeats)]
        taken = sorted(t for t, _ in runs)[repeats // 2]
        found = runs[0][1]
        values, residuals = judge(image, ours, found.eigendistortions, top)
        line(f"{label} ({found.products} products)", taken, values, residuals)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="side of the image in pixels")
    parser.add_argument("--iterations", type=int, default=30, help="of the peer, per end")
    parser.add_argument("--repeats", type=int, default=3, help="of ours; the median counts")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    chosen = parser.parse_args()
    image = photograph(chosen.size)
    print(f"{describe_machine()}; image {tuple(image.shape)}")
    for name in chosen.models:
        compare(name, image, chosen.iterations, chosen.repeats)


if __name__ == "__main__":
    main()
