# %% [markdown]
# # A recurrent network that sees in time
#
# CordsNet (soo2024) is a convolutional network and a dynamical system at once: every unit follows
#
#     tau dr/dt = -r + relu(W_rec * r + b + W_in * u)
#
# Show it a picture and its answer forms within tens of milliseconds; take the picture away and it
# returns to rest. This tutorial builds the smallest one, trains it on handwritten digits by the six
# steps of the paper, and takes it apart.
#
#     python tutorials/cordsnet.py                             # about five minutes
#     python tutorials/cordsnet.py --run runs/cordsnet-digits  # a network trained in full
#     python tutorials/cordsnet.py --checkpoint cordsnetr8.pth --image photo.jpg
#
# The whole training is `calcarine train cordsnet-digits`.

# %%
from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from calcarine import cite, recipe, simulate
from calcarine.models import CordsNet
from calcarine.plot import (
    accuracy_figure,
    classification_figure,
    return_figure,
    save_figure,
    trajectory_figure,
)
from calcarine.plot.eigenvalues import eigenvalue_cloud
from calcarine.probes import accuracy_over_time, principal_trajectories, return_to_baseline
from calcarine.probes.spectrum import leading_eigenvalues, stability
from calcarine.training import fit, open_run

# %% [markdown]
# ## 1. The network
#
# R2 has two areas of 64 channels; R8, the largest, eight of up to 512. Steps last 2 ms, time
# constants are 10 ms. A step is `forward(frame, state)`, as of every stage with memory;
# `classify` takes all steps of a trial at once: 200 ms of nothing, then 200 ms of the picture.


# %%
def meet_the_network(size: int) -> None:
    """Build R2, take it step by step, and do the same at once."""
    torch.manual_seed(0)
    model = CordsNet(depth=2, classes=10, channels=1, image_size=size).eval()
    print(model)
    for k, area in enumerate(model.areas, start=1):
        print(f"area {k}: {area.channels} channels of {area.size[0]} x {area.size[1]} units")
    image = torch.rand(1, 1, size, size)
    with torch.no_grad():
        state = model.baseline(image)
        for _ in range(100):
            logits, state = model(image, state)
        at_once = model.classify(image)
    print(f"100 steps one by one and at once differ by {(logits - at_once).abs().max():.1e}\n")


# %% [markdown]
# ## 2. Training, step by step
#
# Learning through 300 steps from random weights is slow. The paper goes another way, and so does
# the recipe, in phases of one run:
#
# | phase | what happens |
# |---|---|
# | `twin` | a feed-forward network with batch normalisation learns the classes |
# | `inverse` | it is folded; every area learns a recurrence that settles where the twin is |
# | `linear` | the whole network in time, its areas linear, learns the classes |
# | `annealing` | the negative slope falls from 0.95 to 0 in twenty parts |
# | `finetune` | the network as it is: relu |
# | `direct` | the control: another network, from random weights |
#
# Each phase has its own optimiser and can be changed by name. A run that is stopped goes on from
# its last checkpoint, in the middle of any phase. Here everything is shortened.


# %%
def train(folder: Path, share: float, overrides: list[str]) -> Any:
    """Train on a share of the recipe's updates, and open the run."""
    whole = recipe.load("cordsnet-digits")
    # Updates without time cost little: of those, three times the share.
    shares = {"twin": min(1.0, 3 * share), "inverse": min(1.0, 3 * share)}
    shorter = [
        f"training.phases.{p.name}.updates={max(1, round(shares.get(p.name, share) * p.updates))}"
        for p in whole.training.phases
    ]
    made = recipe.load("cordsnet-digits", [*shorter, "training.loggers=[local]", *overrides])
    began = time.perf_counter()
    fit(made.build_task(), made.training, folder, recipe=made.to_dict(), seed=made.seed)
    print(f"{made.training.updates} updates took {time.perf_counter() - began:.0f} s\n")
    return open_run(folder)


# %% [markdown]
# ## 3. Recognition takes time
#
# At onset the network knows nothing; each area needs some time constants. `accuracy_over_time`
# measures how often it is right at every moment, `classification_figure` shows a single trial.
# The feed-forward twin has no time: it gives one answer.


# %%
def watch(task: Any, held_out: list[tuple[Tensor, Tensor]], out: Path) -> None:
    """Measure how fast the answer forms, and draw one trial."""
    model = task.model
    course = accuracy_over_time(model, held_out, off_ms=100.0)
    right = sum(int((task.twin(x).argmax(1) == y).sum()) for x, y in held_out)
    print(f"{course.count} held-out digits: twin {right / course.count:.1%}, staged network "
          f"{course.final:.1%} when the picture goes")  # fmt: skip
    if task.direct is not None:
        control = accuracy_over_time(task.direct, held_out)
        print(f"trained directly for as long: {control.final:.1%}")
    print(f"90 % of the accuracy is there after {course.time_to(0.9):g} ms")
    save_figure(accuracy_figure(course), out / "accuracy.png")
    images, labels = held_out[0]
    shares, times = one_trial(model, images[:1])
    figure = classification_figure(
        task.data.display(images[:1])[0], times, shares, task.data.class_names, offset_ms=200.0,
        truth=int(labels[0]), title="one trial",
    )  # fmt: skip
    save_figure(figure, out / "trial.png")
    print()


def one_trial(model: CordsNet, image: Tensor, off_ms: float = 200.0) -> tuple[Tensor, Tensor]:
    """Return probabilities of all classes from onset on, and the times."""
    rest, weights = model.baseline(image), model.folded()
    logits = [weights.logits(tuple(area.r for area in rest.areas))]
    logits += [weights.logits(r) for r in model.trial(image, 0.0, off_ms=off_ms, state=rest)]
    times = model.dt_ms * torch.arange(len(logits), dtype=torch.float64)
    return torch.cat(logits).softmax(1), times


# %% [markdown]
# ## 4. One resting state
#
# The loss asks that the network be back at its baseline 200 ms after the picture has gone.
# `return_to_baseline` follows it from pictures and from random states: if all come back, one stable
# state was found. In principal components every trial is a loop.


# %%
def back_to_rest(model: CordsNet, images: Tensor, off_ms: float, out: Path) -> None:
    """Follow the network home, and its last area in two components."""
    draw = torch.Generator().manual_seed(0)
    back = return_to_baseline(model, images, random_starts=2, off_ms=off_ms, generator=draw)
    verdict = "one stable state" if back.mono_stable else "not all are back in time"
    print(f"{len(back.starts)} starts, back within {back.worst_return_ms:g} ms: {verdict}")
    rates = model.trace(images, areas=[2], off_ms=100.0, measure=lambda r: r.mean((2, 3)))[2]
    loops = principal_trajectories(rates, 2, dt_ms=model.dt_ms, start_ms=-200.0 + model.dt_ms)
    save_figure(return_figure(back), out / "return.png")
    save_figure(trajectory_figure(loops, offset_ms=200.0), out / "trajectories.png")
    explained = ", ".join(f"{share:.0%}" for share in loops.explained)
    print(f"the last area moves in few dimensions: {explained} of the variance\n")


# %% [markdown]
# ## 5. Eigenvalues
#
# A recurrent convolution is a linear operator on C x H x W numbers. Its matrix is never written
# down; Arnoldi's method finds the leading eigenvalues from products alone. Of the network close to
# its resting state, `stability` gives the modes of one step: a multiplier lambda decays with the
# time constant -dt / log |lambda|.


# %%
def eigenvalues(model: CordsNet, image: Tensor, out: Path) -> None:
    """Find the leading eigenvalues of every area, and the slowest modes at rest."""
    clouds = {}
    for k, area in enumerate(model.folded().detached().areas, start=1):
        shape = (1, *area.bias.shape)
        found = leading_eigenvalues(
            lambda v, w=area.recurrent: F.conv2d(v, w, padding=1), shape, k=12
        )
        print(f"area {k}: recurrent weights, spectral radius {found.values.abs().max():.3f}, "
              f"residual {found.residuals.max():.0e}, {found.products} products")  # fmt: skip
        clouds[f"area {k}"] = found.values
    save_figure(eigenvalue_cloud(clouds), out / "eigenvalues.png")
    nothing = torch.zeros_like(image)
    modes = stability(model, nothing, model.baseline(nothing), k=6)
    slowest = float(modes.step_time_constants_ms.max())
    print(f"at rest: {'stable' if modes.stable else 'unstable'}, slowest mode {slowest:.1f} ms\n")


# %% [markdown]
# ## 6. What a dynamical system can do besides
#
# * **Movies**: a frame per step, `classify(movie)` or `simulate.run(model, movie, state)`.
# * **Another step**: weights do not know dt. Half the step, twice the steps, the same answer.
# * **Time constants of its own**: `CordsNet(tau_ms=(8.0, 12.0), learnable=True)`.
# * **Gradients at the fixed point**: where a network settles, implicit differentiation needs the
#   memory of a single step.


# %%
def more(model: CordsNet, first: Tensor, second: Tensor) -> None:
    """Show a movie, change the step, learn time constants, and differentiate a fixed point."""
    with torch.no_grad():
        movie = torch.cat(
            [first.expand(60, 1, *first.shape[1:]), second.expand(60, 1, *second.shape[1:])]
        )
        logits, _ = simulate.run(model, movie, model.baseline(first))
        answers = logits[:, 0].argmax(1)
        print(f"a movie of two digits: {int(answers[59])}, and 120 ms later {int(answers[-1])}")

        finer = CordsNet(
            depth=model.depth, classes=model.classes, channels=model.channels,
            image_size=model.size, dt_ms=model.dt_ms / 2,
        ).eval()  # fmt: skip
        finer.load_state_dict(model.state_dict())
        change = (finer.classify(first).softmax(1) - model.classify(first).softmax(1)).abs().max()
        print(f"with steps of {finer.dt_ms:g} ms probabilities change by {change:.1e}")

    learner = CordsNet(
        depth=2, classes=10, channels=model.channels, image_size=model.size,
        tau_ms=(8.0, 12.0), learnable=True,
    )  # fmt: skip
    learner.classify(first, stimulus_ms=20.0).logsumexp(1).sum().backward()
    taus = [p for name, p in learner.named_parameters() if ".tau." in name]
    slopes = ", ".join(f"{float(p.grad):.1e}" for p in taus if p.grad is not None)
    print(f"time constants learn: gradients {slopes}")

    settled = learner.settle(first, tolerance=1e-4)
    learner.zero_grad()
    settled.logits.logsumexp(1).sum().backward()
    grad = learner.area1.recurrent.parametrizations.weight.original1.grad
    print(f"a fixed point after {settled.steps} steps; gradient through it {grad.norm():.1e}\n")


# %% [markdown]
# ## 7. Published weights
#
# Weights of others are files of tensors: `torch.load(path, weights_only=True)` unpacks nothing
# else, and `load_published` accepts them under their published names. The command line does it
# all: `calcarine classify photo.jpg --checkpoint cordsnetr8.pth`.


# %%
def published(checkpoint: Path, image: str, out: Path) -> None:
    """Show a picture to published weights of R8."""
    from calcarine.commands.classifiers import published_network
    from calcarine.commands.shared import open_picture

    network = published_network(checkpoint)
    picture = network.prepare(open_picture(image))
    with torch.no_grad():
        shares, times = one_trial(network.model, picture, off_ms=100.0)
    figure = classification_figure(
        network.display(picture)[0],
        times,
        shares,
        network.class_names,
        offset_ms=200.0,
        title=image,
    )
    save_figure(figure, out / "published.png")
    print(f"{checkpoint.name} takes {image} for class {int(shares[100].argmax())}\n")


# %%
def main(arguments: list[str] | None = None) -> None:
    """Go through the whole tutorial."""
    parser = argparse.ArgumentParser(description="CordsNet, from its training to its eigenvalues.")
    parser.add_argument("--run", type=Path, help="a finished run of cordsnet-digits")
    parser.add_argument("--share", type=float, default=0.25, help="of the recipe's updates")
    parser.add_argument("--set", action="append", default=[], help="further changes KEY=VALUE")
    parser.add_argument("--images", type=int, default=599, help="held-out digits to look at")
    parser.add_argument("--off", type=float, default=400.0, help="ms to follow the way back")
    parser.add_argument("--checkpoint", type=Path, help="published weights")
    parser.add_argument("--image", default="sample:coffee", help="what these are shown")
    parser.add_argument("--out", type=Path, default=Path("runs/tutorial-cordsnet"))
    chosen = parser.parse_args(arguments)
    meet_the_network(32)
    run = open_run(chosen.run) if chosen.run else train(chosen.out, chosen.share, chosen.set)
    task = run.task
    held_out = list(task.data.held_out(64, (0, max(1, 599 // chosen.images))))
    images = held_out[0][0]
    with torch.no_grad():
        watch(task, held_out, chosen.out)
        back_to_rest(task.model, images[:4], chosen.off, chosen.out)
        eigenvalues(task.model, images[:1], chosen.out)
    more(task.model, images[:1], images[1:2])
    if chosen.checkpoint:
        published(chosen.checkpoint, chosen.image, chosen.out)
    print(f"Figures are in {chosen.out}. Now try:\n  calcarine report {run.folder}\n"
          f"  calcarine classify --run {run.folder}\nPapers to cite:\n")  # fmt: skip
    print(cite(task.model))


if __name__ == "__main__":
    main()
