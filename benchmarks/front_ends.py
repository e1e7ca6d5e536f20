"""Time of the LGN front ends, against plenoptic's and against direct convolution.

    python benchmarks/front_ends.py [--size 256] [--batch 1] [--steps 20]

Forward alone, and forward with the gradient of the image. All contestants of a front end compute
the same response in fp32 with the same threads; they take turns, and medians count. Direct
convolution is `torch.nn.functional.conv2d` with the same 31 x 31 kernels, as a model made by hand
would have it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from peers import MODELS, describe_machine, front_ends, photograph
from torch import Tensor

from calcarine.lgn import gaussian_kernel

Model = Callable[[Tensor], Tensor]


def direct(name: str) -> Model:
    """Return a front end that convolves directly, all kernels at once."""
    stds = (3.0,) if name == "gaussian" else (1.962, 4.235)
    kernels = torch.stack([gaussian_kernel(31, std) for std in stds])[:, None]
    ratio, scalar = 1.25, 14.95
    if name != "gaussian":
        kernels = torch.cat([ratio * (kernels[:1] - kernels[1:]), kernels[1:]])
    if name == "center_surround":
        kernels = kernels[:1]

    def respond(image: Tensor) -> Tensor:
        filtered = F.conv2d(F.pad(image, (15,) * 4, mode="circular"), kernels)
        if name != "luminance_gain_control":
            return filtered
        return F.softplus(filtered[:, :1] / (1 + scalar * filtered[:, 1:]))

    return respond


def forward(model: Model, image: Tensor) -> Tensor:
    with torch.no_grad():
        return model(image)


def with_gradient(model: Model, image: Tensor) -> Tensor:
    x = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).square().sum(), x)
    return gradient


def compare(name: str, image: Tensor, steps: int) -> None:
    """Print the lines of one front end."""
    theirs, ours = front_ends(name)
    contestants = {"plenoptic": theirs, "direct convolution": direct(name), "calcarine": ours}
    wanted = theirs(image)
    errors = {label: float((m(image) - wanted).abs().max()) for label, m in contestants.items()}
    print(f"\n{name}{'':{32 - len(name)}s}{'forward':>14s}{'with gradient':>20s}")
    medians: dict[str, list[float]] = {label: [] for label in contestants}
    for work in (forward, with_gradient):
        times: dict[str, list[float]] = {label: [] for label in contestants}
        for _ in range(steps + 2):
            for label, model in contestants.items():
                began = time.perf_counter()
                work(model, image)
                times[label].append(1e3 * (time.perf_counter() - began))
        for label, taken in times.items():
            medians[label].append(statistics.median(taken[2:]))
    for label, (once, both) in medians.items():
        print(
            f"  {label:20s}{once:10.2f} ms{once / medians['calcarine'][0]:7.1f} x"
            f"{both:10.2f} ms{both / medians['calcarine'][1]:7.1f} x   off by {errors[label]:.0e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="side of the image in pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20, help="the median counts")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    chosen = parser.parse_args()
    image = photograph(chosen.size).expand(chosen.batch, -1, -1, -1).contiguous()
    print(f"{describe_machine()}; image {tuple(image.shape)}; times a step and relative to ours")
    for name in chosen.models:
        compare(name, image, chosen.steps)


if __name__ == "__main__":
    main()
