# %% [markdown]
# # Cortex simulation
#
# Train a colour cortex from scratch on nothing but simulated optic-nerve signals, look at what it
# sees at every age, and ask how many dimensions its colour has. Then the full model, which is told
# nothing about its eye, and a new pigment for an eye that has grown up without it.
#
#     python tutorials/cortex_simulation.py                    # about twenty minutes on two cores
#     python tutorials/cortex_simulation.py --updates 60       # a look at every step
#
# The cortex in sections 1 to 4 is the small one, the sandbox; sections 5 to 8 are about the full
# one, section 9 about therapy, section 10 about a fourth type of cones.
#
# The walk-through follows the public tutorial of Kotani & Ng (kotani2024) step by step.

# %%
from __future__ import annotations

import argparse
from pathlib import Path

import torch

from calcarine import cite, recipe
from calcarine.plot import (
    image_grid,
    kernel_figure,
    positions_figure,
    readouts_over_time,
    residual_curve,
    save_figure,
)
from calcarine.probes import color_matching, kernel_readout, position_readout, scan
from calcarine.report import readouts_over_time as measure_readouts
from calcarine.report import unwarped
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


def train(folder: Path, name: str, *changes: str):
    """Train by a recipe; go on with a run that is already there."""
    made = recipe.load(name, changes)
    task = made.build_task()
    result = fit(
        task, made.training, folder, recipe=made.to_dict(), seed=made.seed,
        resume=(folder / "checkpoints").is_dir(),
    )  # fmt: skip
    losses = ", ".join(f"{part} {loss:.4g}" for part, loss in result.losses.items())
    print(f"{folder.name}: {result.updates} updates, {result.status}; losses {losses}")
    return open_run(folder)


# %% [markdown]
# ## 3. What the cortex sees
#
# A photograph that the cortex was not trained on: sRGB to linear RGB to cone signals, through the
# retina, decoded to the percept, and shown to us by the neural scope. The percept has eight
# channels; the scope is a linear read-out to RGB that learned beside the cortex and taught it
# nothing. The eye is smaller than the picture, so it looks at one part after the other.


def percepts_over_ages(run, name: str = "coffee") -> tuple[torch.Tensor, list[str]]:
    """Return the percept of a photograph at every age that was kept, the photograph first."""
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


def count_dimensions(run):
    """Run the colour-matching experiment on the trained cortex."""
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


# %% [markdown]
# ## 5. The full cortex
#
# Nothing is given any more. The eye is foveated: its cells lie densely in the middle and sparsely
# outside, at places that the cortex does not know, and horizontal cells subtract the surround. Only
# the optic nerve is left to learn from:
#
# | part | in `task.cortex` | how |
# |---|---|---|
# | W, lateral inhibition | `inhibition` | a 7 x 7 kernel; decoding divides by its spectrum |
# | C, cone identity | `identity` | as before |
# | D, demosaicing | `demosaicing` | as before, with more levels |
# | P, cell positions | `positions` | an invertible flow between lattice and visual field |
# | M, movement | `estimate` | the shift under which one fixation explains the next; not learned |
#
# The recipes are `color` (256 x 256 cells, as published), `color-128`, and `color-64`, used here.


# %%
def show_the_parts(task) -> None:
    """Check that every part can be undone, and let the cortex tell how its eye has moved."""
    cortex, generator = task.cortex, torch.Generator().manual_seed(0)
    _, scene = task.draw(generator)
    eye = task.retina(scene, generator)
    with torch.no_grad():
        activation = cortex.inhibition.decode(eye.optic_nerve[:, :1])
        again = cortex.inhibition.encode(activation) - eye.optic_nerve[:, :1]
        places = cortex.positions.positions(scene)
        back = cortex.positions.to_lattice(places)
        told = cortex.estimate(eye.optic_nerve)[:, 0] * task.retina.window / 2
    lattice = (2 * torch.arange(cortex.size) + 1) / cortex.size - 1
    print(f"W: encode(decode(s)) differs from s by {again.abs().max().item():.1e}")
    print(f"P: there and back differs by {(back[0, 0] - lattice).abs().max().item():.1e}")
    true = eye.eye_shift[:, 0] * task.retina.window / 2
    for moved, guess in zip(true[:4].tolist(), told[:4].tolist(), strict=True):
        print(f"M: the eye moved by {moved} px, the cortex tells {[round(x, 1) for x in guess]}")


# %% [markdown]
# ## 6. What the full cortex sees
#
# The percept lies on the lattice of the optic nerve, which magnifies the middle of the field: it is
# warped. The cortex unwarps it by the positions that it believes in (`cortex.unwarp`).


def percept_in_the_field(run, name: str = "coffee") -> tuple[list[torch.Tensor], list[str]]:
    """Return a photograph, and its percept as it is computed and as it is laid out."""
    task = run.task
    photograph = sample_image(name, size=task.retina.window)
    scene = task.space.linear_to_cones(task.space.srgb_to_linear(photograph))
    with torch.no_grad():
        optic_nerve = task.retina.snapshot(scene)
        warped = task.cortex.decode(optic_nerve)  # latent numbers per cell
        linear = task.percept_scope(warped)  # shown as linear RGB
        shown = task.space.linear_to_srgb(linear).clamp(0, 1)
        laid_out = task.cortex.unwarp(shown)
    aligned = unwarped(run, photograph)  # the same, turned and scaled to fit the scene
    return (
        [photograph, shown, laid_out, aligned.in_field, aligned.as_cells_lie],
        ["photograph", "percept on\nthe lattice", "unwarped, as the\ncortex believes",
         "the same, scaled\nto the scene", "where its\ncells are"],
    )  # fmt: skip


# %% [markdown]
# ## 7. What it knows of its eye
#
# The truth is known to us, so every part can be compared with it: positions after the best
# similarity transform (nothing tells the cortex how large its field is, or which way is up), the
# kernel after the best scaling, cone types by a linear scope, movements by their error in pixels.


def compare_with_the_truth(run, folder: Path) -> None:
    """Print and draw what the cortex knows, by age."""
    known = measure_readouts(run, batches=2)
    print("age    positions  kernel  cone types  movement  prediction")
    for age, now in known.items():
        print(
            f"{age:6d} {now.position_error_cells:6.2f} cells {100 * now.kernel_error:5.0f} % "
            f"{100 * now.cone_accuracy:8.0f} % {100 * now.movement_exact:8.0f} % "
            f"{now.prediction_error:10.3f}"
        )
    save_figure(readouts_over_time(list(known), list(known.values())), folder / "readouts.png")
    cortex, retina = run.task.cortex, run.task.retina
    true = retina.sampling.positions
    believed = cortex.positions.positions(retina.mosaic)[0]
    places = position_readout(believed, true, field_px=retina.window, border=cortex.border)
    save_figure(positions_figure(places, true), folder / "positions.png")
    kernel = kernel_readout(cortex.inhibition.kernel, retina.inhibition.kernel)
    save_figure(kernel_figure(kernel), folder / "kernel.png")


# %% [markdown]
# ## 8. Every part by itself
#
# What is hard to learn together can be told, part by part: `cortex.positions=true`,
# `cortex.inhibition=true`, `cortex.movement=true` take the retina's own facts. Here positions and
# the kernel are told; then movements are found to the pixel, from the first update on.

# %% [markdown]
# ## 9. Therapy: a new pigment
#
# An eye with M and S cones only, and a cortex that has grown up with it. Then half of the M cones
# get the pigment L; nobody tells the cortex. The recipe `color-therapy` starts from the finished
# run; `retina.mosaic` says how the pigment is added:
#
#     MS+L_replace_M        half of the M cones become L cones
#     MS+L_coexpress_M      they hold both pigments
#     MS+L_ratio_M          in any proportion


def therapy(folder: Path, updates: int) -> None:
    """Count the dimensions of colour before and after a pigment was added."""
    short = f"training.updates={updates}"
    before = train(folder / "color-ms", "color-sandbox", "retina.mosaic=MS", short)
    after = train(folder / "therapy", "color-therapy", f"start.run={folder / 'color-ms'}", short)
    added = (after.task.retina.mosaic[0] > 0).float().mean().item()
    print(f"cells that got the pigment L: {added:.0%}")
    for name, run in (("M and S cones", before), ("after therapy", after)):
        print(f"-- {name}")
        count_dimensions(run)


# %% [markdown]
# ## 10. Four types of cones, four dimensions
#
# The recipe `color-tetrachromat` gives half of the L cones of a trichromat the pigment of a pigeon,
# 506 nm. Photographs hold three numbers per point; this eye looks at scenes with spectra. What is
# new in its signals is faint, and with Adam, which follows brightness first, a fourth dimension did
# not come out; `training.optimiser: muon` learns all directions at the same pace.


def tetrachromat(folder: Path, updates: int) -> None:
    """Count the dimensions of colour behind four types of cones."""
    run = train(folder / "tetrachromat", "color-tetrachromat", f"training.updates={updates}")
    print("-- L, M, S and Q cones")
    save_figure(residual_curve(count_dimensions(run)), folder / "tetrachromat.png")


# %%
def main(arguments: list[str] | None = None) -> None:
    """Go through the whole tutorial."""
    parser = argparse.ArgumentParser(description="Train a colour cortex and look at what it sees.")
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path("runs/tutorial-cortex-simulation"))
    chosen = parser.parse_args(arguments)
    out, short = chosen.out, max(3, chosen.updates * 3 // 10)

    show_the_objective(recipe.load("color-sandbox").build_task())
    sandbox = train(out / "sandbox", "color-sandbox", f"training.updates={chosen.updates}")
    pictures, titles = percepts_over_ages(sandbox)
    save_figure(image_grid(pictures, titles=titles), out / "percepts.png")
    matching = count_dimensions(sandbox)
    save_figure(residual_curve(matching), out / "color_matching.png")

    show_the_parts(recipe.load("color-64").build_task())
    full = train(out / "full", "color-64", f"training.updates={chosen.updates}")
    compare_with_the_truth(full, out)
    told = train(
        out / "told",
        "color-64",
        "cortex.positions='true'",
        "cortex.inhibition='true'",
        f"training.updates={short}",
    )
    for name, run in (("full", full), ("told", told)):
        pictures, titles = percept_in_the_field(run)
        figure = image_grid(pictures, titles=titles, limits=(0, 1), columns=5)
        save_figure(figure, out / f"unwarped_{name}.png")
    show_the_parts(told.task)

    therapy(out, short)
    tetrachromat(out, 2 * chosen.updates)
    print(f"Figures are in {out}. Papers to cite:\n")
    print(cite(full.task.cortex))


if __name__ == "__main__":
    main()
