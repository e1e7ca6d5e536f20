# %% [markdown]
# # Cortex simulation
#
# Train a colour cortex from scratch on nothing but simulated optic-nerve signals, look at what it
# sees at every age, and ask how many dimensions its colour has.
#
#     python tutorials/cortex_simulation.py                    # about five minutes on two cores
#     python tutorials/cortex_simulation.py --updates 60       # a look at every step
#
# The walk-through follows the public tutorial of Kotani & Ng (kotani2024) step by step.

# %%
from __future__ import annotations

import argparse
from pathlib import Path

import torch

from calcarine import cite, recipe
from calcarine.plot import image_grid, residual_curve, save_figure
from calcarine.probes import color_matching, scan
from calcarine.stimuli import sample_image
from calcarine.training import fit, open_run

# %% [markdown]
# ## 1. The cortex
#
# | part | here | what it does |
# |---|---|---|
# | C, cone identity | `cortex.identity` | a vector per cell: what kind of cone is it? |
# | D, demosaicing | `cortex.demosaicing` | fills in what the cones of other types did not see |
# | P, cell positions | regular lattice | learned in the full model, known in the sandbox |
# | M, movement | given | estimated in the full model, the true one in the sandbox |
# | W, lateral inhibition | none | learned in the full model, absent in the sandbox |
#
# The objective: decode the signals of one fixation into a percept, move the percept with the eye,
# encode it again, and compare with the signals that really come.


def show_the_objective(task) -> None:
    """Go through one prediction by hand."""
    generator = torch.Generator().manual_seed(0)
    _, scene = task.draw(generator)
    eye = task.retina(scene, generator)
    print(f"scene {tuple(scene.shape)} -> optic nerve {tuple(eye.optic_nerve.shape)}")
    percept = task.cortex.decode(eye.optic_nerve[:, :1])
    print(f"decode -> percept {tuple(percept.shape)}")
    prediction = task.cortex.predict(eye.optic_nerve, eye.eye_shift)
    print(f"translate, encode -> predicted signals {tuple(prediction.optic_nerve.shape)}")
    loss = task.cortex.prediction_loss(prediction, eye.optic_nerve)
    print(f"prediction error of the untrained cortex: {loss.item():.1f}")


# %% [markdown]
# ## 2. Training
#
# All parameters live in one recipe, `color-sandbox`: a lattice of 64 x 64 cells, L, M and S cones,
# no lateral inhibition, the true eye movement. On the command line this is
#
#     calcarine train color-sandbox
#
# and the configuration files of the published code work too: `calcarine train -f Sandbox.yaml`.


def train(folder: Path, updates: int) -> None:
    """Train by the recipe; go on with a run that is already there."""
    made = recipe.load("color-sandbox", [f"training.updates={updates}"])
    task = made.build_task()
    show_the_objective(task)
    result = fit(
        task, made.training, folder, recipe=made.to_dict(), seed=made.seed,
        resume=(folder / "checkpoints").is_dir(),
    )  # fmt: skip
    print(f"{result.updates} updates, {result.status}; losses {result.losses}")


# %% [markdown]
# ## 3. What the cortex sees
#
# A photograph that the cortex was not trained on: sRGB to linear RGB to cone signals, through the
# retina, decoded to the percept, and shown to us by the neural scope. The percept has eight
# channels; the scope is a linear read-out to RGB that learned beside the cortex and taught it
# nothing. The eye is smaller than the picture, so it looks at one part after the other.


def percepts_over_ages(folder: Path, name: str = "coffee") -> tuple[torch.Tensor, list[str]]:
    """Return the percept of a photograph at every age that was kept, the photograph first."""
    run = open_run(folder)
    photograph = sample_image(name, size=160)
    pictures, titles = [photograph], ["photograph"]
    for age in run.ages:
        task = run.at(age).task
        scene = task.space.linear_to_cones(task.space.srgb_to_linear(photograph))

        def show(field: torch.Tensor, task=task) -> torch.Tensor:
            optic_nerve = task.retina.snapshot(field)
            return task.percept_scope(task.cortex.decode(optic_nerve))

        linear = scan(show, scene, task.retina.window)
        pictures.append(task.space.linear_to_srgb(linear).clamp(0, 1))
        titles.append(f"{age} updates")
    return torch.cat(pictures), titles


# %% [markdown]
# ## 4. How many dimensions has its colour?
#
# A good picture through a linear scope proves nothing about dimensionality: a fit to three channels
# is always three-dimensional. The colour-matching experiment does: the smallest number of primaries
# with which every test light can be matched.


def count_dimensions(folder: Path):
    """Run the colour-matching experiment on the trained cortex."""
    run = open_run(folder)
    cortex = run.task.cortex
    result = color_matching(
        run.task.retina, cortex.decode, metric=cortex.identity.metric(border=8), most_primaries=4
    )
    for count, (mean, best) in enumerate(
        zip(result.mean_residual, result.observer_residual, strict=True), start=1
    ):
        print(f"{count} primaries: mean residual {mean:.4f} (perfect observer {best:.4f})")
    print(result.verdict())
    return result


# %%
def main(arguments: list[str] | None = None) -> None:
    """Go through the whole tutorial."""
    parser = argparse.ArgumentParser(description="Train a colour cortex and look at what it sees.")
    parser.add_argument("--updates", type=int, default=6000)
    parser.add_argument("--out", type=Path, default=Path("runs/tutorial-cortex-simulation"))
    chosen = parser.parse_args(arguments)
    train(chosen.out, chosen.updates)
    pictures, titles = percepts_over_ages(chosen.out)
    save_figure(image_grid(pictures, titles=titles), chosen.out / "percepts.png")
    matching = count_dimensions(chosen.out)
    save_figure(residual_curve(matching), chosen.out / "color_matching.png")
    print(f"Figures are in {chosen.out}. Papers to cite:\n")
    print(cite(open_run(chosen.out).task.cortex))


if __name__ == "__main__":
    main()
