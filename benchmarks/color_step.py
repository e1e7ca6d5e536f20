"""Time of one update of the sandbox colour cortex, against the published arrangement.

    python benchmarks/color_step.py [--steps 60]

Both sides do the same work on the same cone-space scenes: two fixations with photon noise, cortex,
both scopes, all optimisers; batch 8, 64 x 64 cells. They take turns, so that whatever else the
machine does falls on both. Ours runs in fp32 and, where the processor has matrix units for it, with
bf16 products; drawing photographs and the checks of the training driver are included on our side.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import torch
from published_color_step import PublishedStep

from calcarine import recipe
from calcarine.training.gradient import GradientLearner
from calcarine.training.precision import resolve_precision


def ours(precision: str):
    """Return a function that does one update, and its task."""
    made = recipe.load("color-sandbox", [f"precision={precision}"])
    task = made.build_task()
    learner = GradientLearner(task.objectives(), task.modules(), made.training)
    generator = torch.Generator().manual_seed(0)
    return (lambda: learner.descend(task.losses(generator))), task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps
    fast, task = ours("bf16")
    linear, scenes = task.draw(torch.Generator().manual_seed(0))
    margin = (scenes.shape[-1] - task.retina.window) // 2
    rgb = linear[..., margin:-margin, margin:-margin].contiguous()
    published = PublishedStep(task.retina.mosaic, task.retina.max_shift_px)
    contestants = {
        "published arrangement, fp32": lambda: published(scenes, rgb),
        "calcarine, fp32": ours("fp32")[0],
        "calcarine, bf16 products": fast,
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(steps + 5):
        for name, step in contestants.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    medians = {name: 1e3 * statistics.median(taken[5:]) for name, taken in times.items()}
    chosen = resolve_precision("auto", scenes.device)
    print(f"threads {torch.get_num_threads()}, precision=auto means {chosen} on this machine")
    for name, milliseconds in medians.items():
        best = 1e3 * min(times[name][5:])
        ratio = medians["published arrangement, fp32"] / milliseconds
        print(f"{name:30s} {milliseconds:7.2f} ms a step (best {best:6.2f})   ratio {ratio:5.2f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
