"""Time of CordsNet against a plain implementation of the published arrangement.

    python benchmarks/cordsnet.py [--size 224] [--rounds 3] [--training] [--busy]

The plain side does what the published model is described to do: stem, skip and weight
normalisation in every area and step, with an image of zeros during the time without input, for
every image anew. Both sides have the same weights and give the same logits; they take turns, so
that whatever else the machine does falls on both. Cold means that the weights have to be brought
into the layout of the compiled kernel and the input-free state computed, warm that both are known.
The kernel itself is compiled before: that takes two seconds, once per machine. The training step
is R2 at 32 x 32 px, batch 32, cross-entropy after 100 + 100 steps. At its end stands what the
backward pass has to keep, through all steps and at the fixed point, after 50, 100 and 200 steps
with the image; solving for the latter takes up to a restart's worth of states more, whatever the
number of steps. On a machine that others use, --busy compares seconds of processor time on one
thread, which waiting for others does not lengthen.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from peers import describe_machine
from torch import Tensor, nn

from calcarine.errors import CalcarineWarning
from calcarine.models import CordsNet
from calcarine.models._cordsnet_kernel import kernel_status


class PlainCordsNet(nn.Module):
    """The same network without any thought of speed; areas update from the last to the first."""

    def __init__(self, model: CordsNet) -> None:
        super().__init__()
        self.net = model

    def stem(self, image: Tensor) -> Tensor:
        """Return what reaches the areas of an image."""
        return F.avg_pool2d(self.net.stem(image), 3, 2, 1)

    def below(self, k: int, r: list[Tensor], image: Tensor) -> Tensor:
        """Return the input of area k + 1 before its feed-forward convolution."""
        h = self.stem(image)
        if k == 0:
            return h
        if k == 1:
            return r[0].relu() + self.net.skip2(h)
        skip = getattr(self.net, f"skip{k + 1}") if k % 2 else nn.Identity()
        return r[k - 1].relu() + skip(r[k - 2].relu())

    def forward(self, images: Tensor, alpha: float = 0.2, steps: int = 100) -> Tensor:
        """Return logits; as on our side, the time without input records no gradient."""
        areas = self.net.areas
        r = [images.new_zeros(len(images), *area.bias.shape) for area in areas]
        for shown in (torch.zeros_like(images), images):
            recording = torch.is_grad_enabled() and shown is images
            with torch.set_grad_enabled(recording):
                for _ in range(steps):
                    for k in reversed(range(len(areas))):
                        area = areas[k]
                        drive = area.recurrent(r[k]) + area.bias
                        drive = drive + area.feedforward(self.below(k, r, shown))
                        r[k] = (1 - alpha) * r[k] + alpha * drive.relu()
        return self.net.readout((r[-1].relu() + r[-2].relu()).mean((2, 3)))


def seconds() -> float:
    """Return the time on the clock, or that spent computing where one thread does everything."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def take_turns(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds each contestant took, round by round."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            start = seconds()
            contestant()
            times[name].append(seconds() - start)
    return times


def report(times: dict[str, list[float]]) -> None:
    """Print medians, and ratios to the first contestant within the same round."""
    slow = next(iter(times.values()))
    for name, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(slow, taken, strict=True))
        best = min(slow) / min(taken)
        print(
            f"{name:28s} {statistics.median(taken):8.3f} s   times faster {ratio:5.2f} "
            f"(best against best {best:5.2f})"
        )


def inference(size: int, rounds: int) -> None:
    """One image, R8, 100 + 100 steps."""
    torch.manual_seed(0)
    model = CordsNet(image_size=size).eval().requires_grad_(False)
    for area in model.areas:
        area.bias.normal_(0, 0.1)
    plain, image = PlainCordsNet(model), torch.randn(1, 3, size, size)
    halved, half = copy.deepcopy(model).bfloat16(), image.bfloat16()
    difference = (plain(image) - model.classify(image)).abs().max().item()
    print(f"R8, {size} x {size}, one image, fp32: largest difference of logits {difference:.1e}")
    halved.classify(half)
    print(f"steps: {kernel_status()}")
    contestants = {
        "published arrangement": lambda: plain(image),
        "calcarine, cold": lambda: copy.deepcopy(model).classify(image),
        "calcarine, warm": lambda: model.classify(image),
        "calcarine, warm, bf16": lambda: halved.classify(half),
    }
    report(take_turns(contestants, rounds))


def training(rounds: int, batch: int = 32) -> None:
    """Forward, backward and update of R2 at 32 x 32 px."""
    torch.manual_seed(0)
    models = {"published arrangement": CordsNet(depth=2, classes=10, image_size=32)}
    models["calcarine"] = copy.deepcopy(models["published arrangement"])
    images, labels = torch.randn(batch, 3, 32, 32), torch.arange(batch) % 10
    plain = PlainCordsNet(models["published arrangement"])
    answers = {"published arrangement": plain, "calcarine": models["calcarine"].classify}

    def step(name: str, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        F.cross_entropy(answers[name](images), labels).backward()
        optimizer.step()

    optimizers = {n: torch.optim.AdamW(m.parameters(), lr=1e-5) for n, m in models.items()}
    contestants = {n: (lambda n=n: step(n, optimizers[n])) for n in models}
    take_turns(contestants, 1)
    pairs = zip(*(m.parameters() for m in models.values()), strict=True)
    worst = max((a.grad - b.grad).abs().max() / a.grad.abs().max() for a, b in pairs)
    print(f"R2, 32 x 32, batch {batch}, training: largest relative gradient difference {worst:.1e}")
    report(take_turns(contestants, rounds))


def kept(answer: Callable[[], Tensor]) -> float:
    """Return how much is kept for the backward pass, MB; what is kept twice counts once."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer()
    return sum(storages.values()) / 2**20


def memory(batch: int = 32) -> None:
    """What gradients of R2 at 32 x 32 px keep, through the steps and at the fixed point."""
    torch.manual_seed(0)
    model, images = CordsNet(depth=2, classes=10, image_size=32), torch.randn(batch, 3, 32, 32)
    for steps in (50, 100, 200):
        shown = steps * model.dt_ms
        through = kept(lambda shown=shown: model.classify(images, stimulus_ms=shown))
        with warnings.catch_warnings():
            # So strict that it takes all steps and says that it has not settled.
            warnings.simplefilter("ignore", CalcarineWarning)
            at_rest = kept(lambda shown=shown: model.settle(images, 1e-30, longest_ms=shown).logits)
        print(
            f"R2, 32 x 32, batch {batch}, {steps:3d} steps: kept for the backward pass "
            f"{through:7.1f} MB through the steps, {at_rest:5.1f} MB at the fixed point"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--training", action="store_true", help="only training and its memory")
    parser.add_argument("--busy", action="store_true", help="processor time on one thread")
    options = parser.parse_args()
    if options.busy:
        torch.set_num_threads(1)
    print(describe_machine())
    if not options.training:
        inference(options.size, options.rounds)
    training(options.rounds)
    memory()
    print(describe_machine())


if __name__ == "__main__":
    main()
