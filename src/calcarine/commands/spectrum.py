"""``calcarine spectrum``: how fast a recurrent network forgets, and whether it is stable."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from calcarine.commands.classifiers import Classifier, Which, network_of_run, published_network
from calcarine.commands.probing import as_command, check_numbers, open_folder, write_numbers
from calcarine.commands.shared import note, print_table
from calcarine.commands.shown_pictures import what_is_shown
from calcarine.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from calcarine.probes.spectrum import Spectrum, Stability

__all__ = ["spectrum"]

What = Literal["recurrent", "jacobian", "network"]
Found = Mapping[str, "tuple[Spectrum, Stability]"]

_MOST = 1000  # eigenvalues per area


def spectrum(
    run: Path,
    /,
    *,
    what: What = "jacobian",
    area: tuple[int, ...] = (),
    image: str | None = None,
    k: int = 20,
    age: int | None = None,
    network: Which = "staged",
    out: Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> None:
    """Compute the leading eigenvalues of a recurrent network, and what they mean.

    Of the recurrent convolution of every area; of the Jacobian of a step of every area, where the
    network settles without input or looking at a picture; or of the whole network. Written are the
    eigenvalues in the complex plane, time constants and frequencies, and all numbers.

    ```
    calcarine spectrum runs/cordsnet-digits
    calcarine spectrum runs/cordsnet-digits --what recurrent --k 100
    calcarine spectrum runs/cordsnet-digits --image sample:held-out-7
    calcarine spectrum cordsnetr8.pth --area 1 --area 2 --image sample:coffee
    calcarine spectrum runs/cordsnet-digits --what network --age 2000
    ```

    Args:
        run: Folder of a run of a CordsNet, or a file of published weights.
        what: The recurrent convolutions, the Jacobians of the areas, or that of the network.
        area: Number of an area from 1, may be repeated; by default all of them.
        image: What the network looks at: a picture, sample:NAME, or sample:held-out-NUMBER of the
            run's data; by default nothing.
        k: Eigenvalues per area, those of the largest modulus.
        age: Updates that the run had learned for; by default all of them.
        network: The network that went through all steps, or the one that was trained directly.
        out: Folder to write to; by default spectrum- and the name of the run.
        force: Write over a result that is there.
        quiet: Print the table only.
    """
    asked = dict(locals())
    check_numbers(k=(k, 1))
    if k > _MOST:
        raise InputError(f"--k expected at most {_MOST} eigenvalues per area, got {k}.")
    if what == "recurrent" and image is not None:
        raise InputError(
            "A recurrent convolution does not depend on what is seen; leave out --image."
        )
    if what == "network" and area:
        raise InputError("--area chooses among areas; with --what network leave it out.")
    opened = _open(run, age, network)
    model = opened.model.requires_grad_(False)
    for number in area:
        if number not in range(1, model.depth + 1):
            raise UnknownNameError("area", str(number), map(str, range(1, model.depth + 1)))
    folder = open_folder(out, f"spectrum-{run.stem}", force=force)
    chosen = sorted(set(area)) or list(range(1, model.depth + 1))
    seen = None if image is None else _picture(image, opened)
    if not quiet:
        note(f"{what} of {opened.name}")
    from calcarine.probes.area_spectra import area_modes, together

    of_areas: Literal["recurrent", "jacobian"] = "jacobian" if what != "recurrent" else what
    per_area = area_modes(model, chosen, of_areas, seen, k, progress=None if quiet else note)
    found = {f"area {number}": each for number, each in per_area.items()}
    if what == "network":
        whole = together([modes for _, modes in found.values()], k, model.dt_ms)
        found["network"] = whole.spectrum, whole

    _print(found, what)
    verdict = _verdict(found, what, len(chosen) == model.depth)
    print(f"\n{verdict}")
    numbers = {
        "command": as_command(spectrum, "spectrum", asked),
        "network": opened.name,
        "what": what,
        "verdict": verdict,
        "spectra": {name: _summary(*each) for name, each in found.items()},
    }
    written = [*_draw(folder, found, what, opened.name), write_numbers(folder, numbers)]
    if not quiet:
        print(f"\nWrote {', '.join(map(str, written))}")
        if run.is_dir():
            print(f"\nNow try:\n  calcarine classify --run {shlex.quote(str(run))}")


def _open(run: Path, age: int | None, network: Which) -> Classifier:
    if not run.is_file():
        return network_of_run(run, age, network)
    if age is not None or network != "staged":
        raise InputError("--age and --network are those of a run, not of a file of weights.")
    return published_network(run)


def _picture(image: str, network: Classifier) -> Float[Tensor, "1 c H W"]:
    shown = next(iter(what_is_shown((image,), network)))
    if shown.frame_ms:
        raise InputError(f"{image} is a movie; a network settles on a picture that stands still.")
    return shown.images


def _print(found: Found, what: What) -> None:
    rows = []
    for name, (values, modes) in found.items():
        lead, good = complex(values.values[0]), [values.status, modes.spectrum.status]
        slowest = int(modes.step_values.abs().argmax())
        tau = _time(float(modes.step_time_constants_ms[slowest]))
        hertz = f"{float(modes.step_frequencies_hz[slowest]):.2f}"
        rows.append((
            name, f"{abs(lead):.4f}", f"{lead.real:.4f}{lead.imag:+.4f}i",
            f"{float(values.residuals.max()):.0e}", tau, hertz,
            "yes" if set(good) == {"converged"} else "no",
        ))  # fmt: skip
    columns = (">spectral radius", ">leading", ">residual", ">tau (ms)", ">f (Hz)", "converged")
    title = {
        "recurrent": "Recurrent convolutions; tau and f of linear areas",
        "jacobian": "Jacobians of one step",
        "network": "Jacobian of one step of the network",
    }[what]
    print_table(("", *columns), rows, title=title)


def _time(tau_ms: float) -> str:
    return "grows" if tau_ms < 0 or tau_ms == float("inf") else f"{tau_ms:.1f}"


def _verdict(found: Found, what: What, whole: bool) -> str:
    """Say whether the network, or what of it was looked at, is stable."""
    unstable = [name for name, (_, modes) in found.items() if not modes.stable]
    unsure = [n for n, (_, modes) in found.items() if modes.spectrum.status != "converged"]
    subject = {"recurrent": "With linear areas, the network"}.get(what, "At this state the network")
    if not whole:
        subject = subject.replace("the network", "what was looked at")
    if unstable:
        return f"{subject} is unstable: {', '.join(unstable)} has modes that grow."
    if unsure:
        return f"{subject} may be stable, but not all eigenvalues have converged."
    return f"{subject} is stable: every mode found decays."


def _summary(values: Spectrum, modes: Stability) -> dict[str, Any]:
    return {
        "spectral_radius": float(values.values.abs().max()),
        "eigenvalues": [[v.real, v.imag] for v in values.values.tolist()],
        "residuals": values.residuals,
        "products": values.products,
        "status": values.status,
        "step_values": [[v.real, v.imag] for v in modes.step_values.tolist()],
        "step_residuals": modes.spectrum.residuals,
        "step_status": modes.spectrum.status,
        "time_constants_ms": modes.step_time_constants_ms,
        "frequencies_hz": modes.step_frequencies_hz,
        "stable": modes.stable,
    }


def _draw(folder: Path, found: Found, what: What, name: str) -> Sequence[Path]:
    from calcarine.plot import eigenvalue_cloud, mode_figure, save_figure

    values = {key: each.values for key, (each, _) in found.items()}
    written = [save_figure(eigenvalue_cloud(values, title=name), folder / "eigenvalues.png")]
    if what != "recurrent":  # those of a step lie close together
        near = eigenvalue_cloud(values, zoom=True, title=f"{name}, enlarged")
        written.append(save_figure(near, folder / "eigenvalues_enlarged.png"))
    linear = " of linear areas" if what == "recurrent" else ""
    modes = {key: each for key, (_, each) in found.items()}
    figure = mode_figure(modes, title=f"Modes{linear}: {name}")
    return [*written, save_figure(figure, folder / "modes.png")]
