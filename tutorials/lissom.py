# %% [markdown]
# # LISSOM: weights, activity, and a map
#
# What a unit of a cortical sheet is connected to, what the sheet makes of a spot of light, and how
# a map of orientations grows.
#
#     python tutorials/lissom.py                  # less than a minute on two cores
#     python tutorials/lissom.py --stimuli 100 --density 24    # a look at every step
#
# * A *local connection* is a layer whose units each see a disc of another sheet.
# * An *LGN* layer subtracts a wide Gaussian from a narrow one: what is left are edges.
# * A *settling sheet* is V1: afferent input, then excitation from near and inhibition from far.
# * *LISSOM* is all of it, from the retina to V1 (miikkulainen2005); *GCAL* adds gain control and
#   thresholds that adapt (stevens2013), and needs no schedule to grow a map.
#
# The first part asks the questions of pylissom's walk-through of weights and activations, figure by
# figure. Unlike there, spots lie exactly in the middle (between four pixels), so that what ought to
# be symmetric is, and every connection is told first what it looks at and then where its units are.

# %%
from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from calcarine import cite
from calcarine.models import Gcal, Lissom
from calcarine.plot import (
    field_figure,
    image_grid,
    map_development,
    orientation_histogram,
    orientation_map_figure,
    save_figure,
    stage_activity,
    weight_grid,
)
from calcarine.probes import OrientationMap, orientation_map
from calcarine.stimuli import OrientedGaussians
from calcarine.v1 import (
    LateralInteraction,
    LocalConnection,
    PiecewiseSigmoid,
    SettlingSheet,
    difference_of_gaussians_weights,
    gaussian_cloud_weights,
    piecewise_sigmoid,
)

# %% [markdown]
# ## What a unit looks at
#
# A layer of 5 x 5 units on 25 x 25 sources. Each unit has a field of radius 5 with Gaussian weights
# (sigma 5) times noise, and the weights of a field sum to 1. In the figure each small square is the
# whole source sheet as one unit sees it: black outside its field.

# %%
SOURCE, UNITS = (25, 25), (5, 5)


def local_weights(out: Path) -> None:
    """Show the fields of a layer, and what normalising and the radius have done to them."""
    fields = LocalConnection(SOURCE, UNITS, radius=5, sigma=5)
    fields.reset_(torch.Generator().manual_seed(0))
    weights = fields.dense().reshape(*UNITS, *SOURCE)
    sums = weights.sum(dim=(-2, -1))
    print(f"{fields}\n  sums of the fields {float(sums.min()):.6f} to {float(sums.max()):.6f}")
    print(f"  sources in the field of the middle unit {int(weights[2, 2].count_nonzero())}, "
          f"of a corner's {int(weights[0, 0].count_nonzero())}; "
          f"{float((weights == 0).float().mean()):.0%} of all pairs are not connected")  # fmt: skip
    figure = weight_grid(weights, title="local connection, radius 5: every field sums to 1")
    save_figure(figure, out / "local_weights.png")

    cloud = gaussian_cloud_weights(
        SOURCE, UNITS, sigma=5, generator=torch.Generator().manual_seed(0)
    ).reshape(*UNITS, *SOURCE)
    most = float(cloud.sum(dim=(-2, -1)).max())
    print(f"a cloud without radius and norm: weights up to {float(cloud.max()):.2f} instead of "
          f"{float(weights.max()):.3f}, sums up to {most:.0f}\n")  # fmt: skip
    figure = weight_grid(cloud, title="Gaussian cloud: no radius, no norm")
    save_figure(figure, out / "cloud_weights.png")


# %% [markdown]
# ## Centre minus surround
#
# The layer that the LGN is made of: a Gaussian minus another. Here the surround excites (an OFF
# cell) and each Gaussian sums to 1 over the field, so a field sums to 0 and does not answer to
# uniform light, wherever the border cuts it. Without radius and norm the surround wins everywhere.


# %%
def center_surround_weights(out: Path) -> None:
    """Show OFF fields with radius and norm, and without."""
    off = difference_of_gaussians_weights(SOURCE, UNITS, 1, 5, radius=5, on=False)
    raw = difference_of_gaussians_weights((24, 24), UNITS, 1, 5, on=False, normalized=False)
    layer = LocalConnection(
        SOURCE, UNITS, radius=5, sigma=1, profile="difference", sigma_surround=5
    )
    same = float((layer.dense() + off).abs().max())
    sums = raw.sum(dim=1)
    print(f"centre-surround fields sum to {float(off.sum(dim=1).abs().max()):.0e} at most, "
          f"without norm to {float(sums.min()):.0f} and up to {float(sums.max()):.0f}")  # fmt: skip
    print(f"the ON layer has the same weights with the other sign, up to {same:.0e}\n")
    figure = weight_grid(
        off.reshape(*UNITS, *SOURCE), title="OFF fields, radius 5, normalised; blue inhibits"
    )
    save_figure(figure, out / "center_surround_weights.png")
    figure = weight_grid(raw.reshape(*UNITS, 24, 24), title="OFF fields, no radius, no norm")
    save_figure(figure, out / "center_surround_raw.png")


# %% [markdown]
# ## The LGN
#
# A spot of light goes through an ON layer and an OFF layer, each cut off below 0 and above 1. Their
# difference is bright in the middle of the spot and dark around it: change is passed on, uniform
# light is not. Sizes follow from the side of the sheet, 36; the OFF layer of this one figure is
# wider (sigmas 2 and 5), as in the walk-through.

# %%
SIDE = 36
SHEET = (SIDE, SIDE)
AFFERENT = SIDE / 4 + 0.5
CENTER = 0.5 * AFFERENT / 6.5
SURROUND = 4 * CENTER
STRENGTH = 2.33


def spot(sigma_px: float) -> Tensor:
    """Return a round spot of light in the middle of the retina, with axes (1, 1, height, width)."""
    light = OrientedGaussians(
        density=SIDE, half_side=0.5, per_image=1, cortex_half_side=0.0, margin=0.0,
        sigma=sigma_px / SIDE, aspect=1.0, contrast=1.0,
    )  # fmt: skip
    return light.draw(1)


def lgn(out: Path) -> None:
    """Show what ON and OFF cells make of a spot."""
    image = spot(3)
    radius = 4.7 * SURROUND
    on = LocalConnection(
        SHEET, SHEET, radius, CENTER, profile="difference", sigma_surround=SURROUND
    )
    off = LocalConnection(SHEET, SHEET, radius, 2, profile="difference", sigma_surround=5)
    parts = {
        "ON": piecewise_sigmoid(STRENGTH * on(image[0]), 0, 1),
        "OFF": piecewise_sigmoid(-STRENGTH * off(image[0]), 0, 1),
    }
    difference = parts["ON"] - parts["OFF"]
    uniform = float(on(torch.ones(1, *SHEET)).abs().max())
    print(f"LGN: the spot gives {float(difference.max()):.2f} in its middle and "
          f"{float(difference.min()):.2f} around it, uniform light {uniform:.0e}\n")  # fmt: skip
    figure = stage_activity(
        {"retina": image, **parts}, columns=3, title="a spot of light in the LGN"
    )
    save_figure(figure, out / "lgn_parts.png")
    figure = image_grid([difference], limits=(-0.5, 0.5), width_in=3.2, label="ON - OFF",
                        titles=["LGN, response to the spot"])  # fmt: skip
    save_figure(figure, out / "lgn_response.png")


# %% [markdown]
# ## V1 on its own
#
# The sheet gets light directly. Three connections meet in it: afferent, from the retina;
# excitatory, from units nearby; inhibitory, from units further away as well. After a first response
# to the afferent input it settles for nine steps, in each of which the last activity excites and
# inhibits: a broad, faint response becomes a small, strong one.


# %%
def sheet() -> SettlingSheet:
    """Return V1 with fresh weights."""
    excitatory, inhibitory = SIDE / 10, SIDE / 4 - 1
    lateral = LateralInteraction(
        LocalConnection(SHEET, SHEET, excitatory, 0.78 * excitatory),
        LocalConnection(SHEET, SHEET, inhibitory, 2.08 * inhibitory),
        PiecewiseSigmoid(0.083, 0.633),
        excitatory_strength=0.9,
        inhibitory_strength=0.9,
    )
    afferent = LocalConnection(SHEET, SHEET, AFFERENT, AFFERENT / 1.3)
    generator = torch.Generator().manual_seed(0)
    for connection in (afferent, lateral.excitatory, lateral.inhibitory):
        connection.reset_(generator)
    return SettlingSheet([afferent], lateral, settling=9)


def active(activity: Tensor) -> str:
    """Say how many units respond, and how strongly."""
    return f"{int((activity > 0).sum())} of {activity.numel()}, up to {float(activity.max()):.2f}"


def settle(out: Path) -> None:
    """Show what every connection of V1 receives and gives at the last step, and how it settles."""
    v1 = sheet()
    print(v1)
    light = STRENGTH * spot(2)
    drive = v1.drive(light)
    course = v1.course(drive)
    before, after = course[-2], course[-1]
    stages = {
        "retina": light,
        "afferent": drive,
        "V1 one step before": before,
        "excitatory": v1.lateral.excitatory(before),
        "inhibitory": v1.lateral.inhibitory(before),
        "V1 settled": after,
    }
    total = drive + 0.9 * stages["excitatory"] - 0.9 * stages["inhibitory"]
    error = float((v1.lateral.activation(total) - after).abs().max())
    print(f"\nunits that respond to the spot at first: {active(course[0])}")
    print(f"units that respond when V1 has settled: {active(after)}")
    print(f"the last step, put together by hand, differs by {error:.0e}\n")
    figure = image_grid([after], width_in=3.2, limits=(0, 1), label="activity",
                        titles=["V1, settled response to the spot"])  # fmt: skip
    save_figure(figure, out / "v1_response.png")
    figure = stage_activity(stages, columns=3, title="what V1's connections receive and give")
    save_figure(figure, out / "v1_stages.png")
    titles = ["first response", *(f"step {t}" for t in range(1, len(course)))]
    figure = image_grid(list(course), titles=titles, limits=(0, 1), columns=5, width_in=1.6)
    save_figure(figure, out / "v1_settling.png")
    middle = (SIDE // 2, SIDE // 2)
    afferent = v1.afferents[0]
    assert isinstance(afferent, LocalConnection)
    fields = {"afferent": afferent, "excitatory": v1.lateral.excitatory,
              "inhibitory": v1.lateral.inhibitory}  # fmt: skip
    figure = stage_activity({name: each.field(*middle) for name, each in fields.items()},
                            columns=3, title="fields of the unit in the middle of V1")  # fmt: skip
    save_figure(figure, out / "v1_fields.png")


# %% [markdown]
# ## LISSOM
#
# The whole pathway, with the same sizes, which are those the model takes when only the sides of the
# sheets are given. Here V1 has one field for the sum of ON and OFF, as in pylissom; by default it
# has one for each, as in the book.


# %%
def lissom(out: Path) -> None:
    """Show the activity of every stage."""
    model = Lissom(SHEET, SHEET, SHEET, lgn="summed").reset_(torch.Generator().manual_seed(0))
    print(model)
    image = spot(2)
    found = model.activity(image)
    stages = {"retina": image, "ON": found.on, "OFF": found.off, "ON + OFF": found.on + found.off,
              "afferent": found.afferent, "V1": found.v1}  # fmt: skip
    print("\nactivity, lowest and highest")
    for name, activity in stages.items():
        print(f"  {name:9s} {float(activity.min()):.2f} {float(activity.max()):.2f}")
    print(f"units of LISSOM's V1 that respond to the spot: {active(found.v1)}\n")
    figure = image_grid([found.v1], width_in=3.2, limits=(0, 1), label="activity",
                        titles=["LISSOM's V1, response to the spot"])  # fmt: skip
    save_figure(figure, out / "lissom_response.png")
    figure = stage_activity(stages, columns=3, title="a spot of light through LISSOM")
    save_figure(figure, out / "lissom_stages.png")


# %% [markdown]
# ## A map grows
#
# Now the weights learn. GCAL is shown elongated blobs of light one after another; each time
# connections between active units grow and every field is brought back to its sum. Sine gratings
# then tell which orientation each unit prefers. At first neighbours have nothing in common; after
# some hundred stimuli preferences change smoothly, except at *pinwheels*, around which all of them
# meet, and there are still too many of those. It takes thousands to become as selective and as
# orderly as a finished map:
#
#     calcarine train gcal-orientation        # a minute or two
#     calcarine map runs/gcal-orientation     # its pinwheels, fields and development


# %%
def grow(model: Gcal, blobs: OrientedGaussians, ages: list[int]) -> dict[int, OrientationMap]:
    """Let a model learn; return its maps at some ages."""
    generator, age, maps = torch.Generator().manual_seed(0), 0, {}
    for stop in ages:
        if stop > age:
            learned = model.learn(blobs.draw(stop - age, generator))
            share = float(learned["active"])
            print(f"  stimuli {age} to {stop}: {share:.1%} of the units respond to each")
        age = stop
        maps[age] = orientation_map(model.afferent, blobs.sheet)
    return maps


def show_maps(model: Gcal, maps: dict[int, OrientationMap], out: Path) -> None:
    """Draw the map before and after, its development, and what a unit has learned to look at."""
    for age in (min(maps), max(maps)):
        found = maps[age]
        figure = orientation_map_figure(
            found.direction, selectivity=found.selectivity, pinwheels=found.pinwheels(),
            title=f"after {age} stimuli",
        )  # fmt: skip
        save_figure(figure, out / f"map_{'first' if age == min(maps) else 'last'}.png")
    last = maps[max(maps)]
    save_figure(orientation_histogram(last.direction), out / "map_histogram.png")
    measures = {
        "smoothness": torch.tensor([each.smoothness() for each in maps.values()]),
        "selectivity": torch.tensor([float(each.selectivity.mean()) for each in maps.values()]),
        "stability": torch.tensor([each.stability(last) for each in maps.values()]),
    }
    save_figure(map_development(list(maps), measures), out / "map_development.png")
    best = int(last.selectivity.argmax())
    unit = divmod(best, last.selectivity.shape[1])
    fields = [each for each in model.v1.afferents if isinstance(each, LocalConnection)]
    on, off = (each.field(*unit) for each in fields)
    angle = float(last.preference_deg[unit])
    figure = field_figure({"ON": on, "OFF": off}, difference=("ON", "OFF"), unit=unit,
                          title=f"the most selective unit prefers {angle:.0f} degrees")  # fmt: skip
    save_figure(figure, out / "map_field.png")


def growing_map(stimuli: int, density: float, out: Path) -> None:
    """Grow a small GCAL map and say what has become of it."""
    model = Gcal(cortex_density=density).reset_(torch.Generator().manual_seed(0))
    ages = sorted({0, *(round(stimuli * part) for part in (0.1, 0.25, 0.5, 0.75, 1))})
    print(f"GCAL: V1 of {model.cortex_shape[0]} x {model.cortex_shape[1]} units")
    maps = grow(model, OrientedGaussians(), ages)
    last = maps[max(maps)]
    print("  age   smoothness  selectivity  pinwheels  likeness to the last")
    for age, each in maps.items():
        print(f"  {age:5d} {each.smoothness():10.2f} {float(each.selectivity.mean()):12.3f} "
              f"{len(each.pinwheels()):10d} {each.stability(last):12.2f}")  # fmt: skip
    signs = last.pinwheels().sign
    print(f"  pinwheels: {int((signs > 0).sum())} counter-clockwise, {int((signs < 0).sum())} "
          f"clockwise; {last.pinwheel_density('center_of_mass'):.1f} per hypercolumn squared, "
          "animals have 3.1\n")  # fmt: skip
    show_maps(model, maps, out)


# %%
def main(arguments: list[str] | None = None) -> None:
    """Go through the whole tutorial."""
    parser = argparse.ArgumentParser(description="Weights, activity and maps of cortical sheets.")
    parser.add_argument("--stimuli", type=int, default=1000, help="stimuli that the map grows from")
    parser.add_argument("--density", type=float, default=48, help="units along a side of that map")
    parser.add_argument("--out", type=Path, default=Path("runs/lissom"))
    chosen = parser.parse_args(arguments)
    local_weights(chosen.out)
    center_surround_weights(chosen.out)
    lgn(chosen.out)
    settle(chosen.out)
    lissom(chosen.out)
    growing_map(chosen.stimuli, chosen.density, chosen.out)
    print(f"Figures are in {chosen.out}. Papers to cite:\n")
    print(cite(Gcal(cortex_density=12)))


if __name__ == "__main__":
    main()
