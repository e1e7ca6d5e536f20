# %% [markdown]
# # Probing models
#
# What can a model of early vision not see, and what does it see best? Three front ends of rising
# complexity are asked: a blur, a centre-surround filter, and one with luminance gain control.
#
#     python tutorials/probing_models.py                  # a minute on two cores
#     python tutorials/probing_models.py --size 64        # a look at every step
#
# * A *metamer* is an image that differs from a given one and gives the same response: it shows what
#   a model cannot see.
# * An *eigendistortion* is the small change that moves the response most, or least: it shows what a
#   model sees best, and worst.
#
# The walk-through asks the questions of plenoptic's introduction about the models of Berardino and
# others (berardino2017), and answers them with numbers.

# %%
from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calcarine import cite
from calcarine.lgn import CenterSurround, Gaussian, LuminanceGainControl, gaussian_kernel
from calcarine.plot import (
    eigendistortion_figure,
    image_grid,
    power_spectrum,
    save_figure,
    synthesis_animation,
    synthesis_loss,
)
from calcarine.probes import Eigendistortion, Metamer, check_model, l2_norm
from calcarine.stimuli import pink_noise, sample_image

# %% [markdown]
# ## Pictures
#
# Two photographs that come with installed packages, and noise with the spectrum of photographs.


# %%
STARTS = ("white noise", "pink noise", "a photograph")


def photograph(name: str, size: int) -> Tensor:
    """Return a grey photograph, cut square, with axes (1, 1, size, size) and values in [0, 1]."""
    picture = sample_image(name, size=size, channels="gray")
    left = (picture.shape[-1] - size) // 2
    return picture[..., left : left + size]


def noise_starts(size: int) -> tuple[Tensor, Tensor]:
    """Return white and pink noise that fill the range 0 to 1."""
    generator = torch.Generator().manual_seed(1)
    white = torch.rand(1, 1, size, size, generator=generator)
    pink = pink_noise((1, 1, size, size), generator=generator)
    return white, (pink - pink.min()) / (pink.max() - pink.min())


# %% [markdown]
# ## What is compared
#
# All three models treat every place alike, or nearly so, so their behaviour is best told by spatial
# frequency. `H` is the response to a grating of frequency f; a linear model of this kind multiplies
# the picture's spectrum by it.


# %%
def frequencies(size: int) -> Tensor:
    """Return |f| in cycles/px for every coefficient of `fft2`."""
    f = torch.fft.fftfreq(size)
    return torch.hypot(f[:, None], f)


def alike(one: Tensor, other: Tensor, band: Tensor) -> float:
    """Return how much of `other` is in `one` within a band: 1 all of it, 0 nothing."""
    a, b = (torch.fft.fft2(x.double())[..., band] for x in (one, other))
    return float((a * b.conj()).real.sum() / b.abs().square().sum())


def power(picture: Tensor, band: Tensor) -> float:
    """Return the mean power within a band; white noise of variance s has power s."""
    waves = torch.fft.fft2((picture - picture.mean()).double(), norm="ortho")
    return float(waves[..., band].abs().square().mean())


def peak(picture: Tensor) -> float:
    """Return the frequency of the strongest grating in a picture, in cycles/px."""
    waves = torch.fft.fft2(picture.double()).abs().flatten()
    return float(frequencies(picture.shape[-1]).flatten()[waves.argmax()])


def show_bands(name: str, image: Tensor, starts: Tensor, metamers: Tensor, H: Tensor) -> None:
    """Print what metamers have of the image and of their start, by what the model sees."""
    gain, f = H.abs() / H.abs().max(), frequencies(len(H))
    top = f.flatten()[gain.argmax()]
    bands = {
        "too low for it": (gain < 0.1) & (f < top) & (f > 0),
        "seen well": (gain > 0.5) & (f > 0),
        "too high for it": (gain < 1e-3) & (f > top),
    }
    print(f"{name}: what its metamers have of the image and of their start, 1 for all of it")
    print(" " * 45 + "".join(f"{start:>14s}" for start in STARTS))
    for words, band in bands.items():
        if not band.any():
            continue
        low, high = float(f[band].min()), float(f[band].max())
        shares = "   ".join(
            f"{alike(m[None], image, band):5.2f} {alike(m[None], s[None], band):5.2f}"
            for s, m in zip(starts, metamers, strict=True)
        )
        print(f"  {words:16s} {low:.3f} to {high:.3f} cycles/px:   {shares}")
    print()


# %% [markdown]
# ## A model by hand
#
# A model is any differentiable function from a picture with axes (batch, channel, height, width) to
# a response with three or four axes. This one blurs. `check_model` says what a probe needs, and
# repairs nothing: at first the weights still collect gradients.


# %%
class HandMadeGaussian(nn.Module):
    """Blur by a Gaussian of 31 x 31 px; beyond the border lies the other side."""

    def __init__(self, kernel_size: int = 31, std: float = 3.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, kernel_size, bias=False)
        self.conv.weight.data[0, 0] = gaussian_kernel(kernel_size, std)

    def forward(self, image: Tensor) -> Tensor:
        """Return the blurred picture."""
        margin = self.conv.kernel_size[0] // 2
        return self.conv(F.pad(image, (margin,) * 4, mode="circular"))


def a_model_by_hand(image: Tensor, out: Path) -> nn.Module:
    """Make the blur, make it fit to be probed, and compare it with the one that is there."""
    model = HandMadeGaussian()
    print(check_model(model, image))
    model.eval().requires_grad_(False)
    print(check_model(model, image))
    ready = Gaussian(31, std=3.0, pad_mode="circular")
    difference = float((model(image) - ready(image)).abs().max())
    print(f"calcarine.lgn.Gaussian gives the same, up to {difference:.0e}, and is much faster.\n")
    figure = image_grid([image, ready(image)], titles=["image", "response"], limits=(0, 1))
    save_figure(figure, out / "gaussian_response.png")
    return ready


# %% [markdown]
# ## What a blur cannot see
#
# Synthesis begins with white noise and stops when the response is that of the image. A second call
# goes on where the first one stopped.


# %%
def metamer_of_the_blur(image: Tensor, model: Gaussian, out: Path) -> Metamer:
    """Synthesise a metamer in two goes, film it, and say why it looks like static."""
    metamer = Metamer(image, model, generator=torch.Generator().manual_seed(1))
    for most in (20, 150):
        metamer.synthesize(max_iter=most, store_every=2, progress=False)
        loss = float(metamer.losses.representation[-1])
        print(f"after {metamer.iterations} iterations: {metamer.status}, loss {loss:.1e}")
    save_figure(synthesis_loss(metamer), out / "gaussian_loss.png")
    synthesis_animation(metamer, out / "gaussian_metamer.webp")
    pictures = [image, model(image), metamer.metamer, model(metamer.metamer)]
    titles = ["image", "response to the image", "metamer", "response to the metamer"]
    figure = image_grid(pictures, titles=titles, limits="auto1", columns=2, width_in=2.6)
    save_figure(figure, out / "gaussian_metamer.png")
    return metamer


# %% [markdown]
# **Why does the metamer look like static?** A blur is a low-pass filter. What it does not pass, the
# synthesis has no reason to change, and white noise has as much of it as of everything else. Where
# light and noise together would leave the range from 0 to 1, the penalty takes noise away.


# %%
def why_it_looks_like_static(metamer: Metamer, model: Gaussian, out: Path) -> list[str]:
    """Answer by frequency; return how much of the noise is kept, with a range and without."""
    image, start, found = metamer.image, metamer.initial, metamer.metamer
    gain = model.transfer_function(image.shape[-2:])[0].abs().square()
    unseen, seen = gain < 1e-6, gain > 1e-2
    cut_off = float(frequencies(len(gain))[unseen].min())
    free = Metamer(image, model, start, penalty=None).synthesize(progress=False).metamer
    kept = [f"{alike(x, start, unseen):.0%}" for x in (found, free)]
    outside = float(((free < 0) | (free > 1)).float().mean())
    print(f"of {gain.numel()} frequencies {int(unseen.sum())} have |H|^2 < 1e-6, all above "
          f"{cut_off:.3f} cycles/px;")  # fmt: skip
    print(f"  there the metamer has {kept[0]} of the noise that it began with,")
    print(f"  and {power(found, unseen) / power(image, unseen):.0f} times the power of the image;")
    print(f"  where |H|^2 > 1e-2 it has {alike(found, image, seen):.2%} of the image.")
    print(f"Without the penalty on values outside 0 to 1 it keeps {kept[1]} of the noise, but "
          f"{outside:.0%} of its pixels lie outside.\n")  # fmt: skip
    labels = ["image", "white noise it began with", "metamer"]
    save_figure(power_spectrum([image, start, found], labels), out / "gaussian_spectra.png")
    return kept


def compare_starts(
    name: str, image: Tensor, model: nn.Module, starts: Tensor, out: Path
) -> Metamer:
    """Synthesise one metamer per start, all at once, and show them."""
    metamer = Metamer(image.expand_as(starts), model, initial=starts)
    metamer.synthesize(max_iter=3000, progress=False)
    print(f"{name}: {metamer.status} after {metamer.iterations} iterations")
    losses = metamer.item_losses.representation[-1].tolist()
    for start, loss, found in zip(STARTS, losses, metamer.metamer, strict=True):
        print(f"  from {start:12s} loss {loss:.1e}, values {float(found.min()):.2f} to "
              f"{float(found.max()):.2f}")  # fmt: skip
    pictures = torch.cat([image, metamer.metamer])
    responses = model(pictures)
    low, high = float(responses.min()), float(responses.max())
    titles = ["image", *(f"metamer from {start}" for start in STARTS), *["response"] * 4]
    figure = image_grid(
        torch.cat([pictures.clamp(0, 1), (responses - low) / (high - low)]),
        titles=titles, limits=(0, 1), columns=4, width_in=2.4,
        title=f"black to white: pictures 0 to 1, responses {low:.2g} to {high:.2g}",
    )  # fmt: skip
    save_figure(figure, out / f"{name}_metamers.png")
    return metamer


# %% [markdown]
# ## What a model notices
#
# The strongest and the weakest distortion of unit norm, with the eigenvalues of the Fisher matrix:
# a step of size a along a distortion moves the response by a times the root of its eigenvalue. For
# a linear model that treats every place alike the answer is known: the extremes of |H|^2. At the
# small end very many distortions are alike; the one found is one that the model hardly notices.


# %%
def distortions(
    name: str, image: Tensor, model: nn.Module, out: Path | None = None
) -> Eigendistortion:
    """Find the most and the least noticeable distortion, and print their facts."""
    found = Eigendistortion(image, model).synthesize(tolerance=1e-5, progress=False)
    values, residuals = found.eigenvalues.tolist(), found.residuals.tolist()
    peaks = [peak(d) for d in found.eigendistortions]
    print(f"{name}: {found.status}, {found.products} products with the Fisher matrix")
    for words, value, residual, f in zip(("most", "least"), values, residuals, peaks, strict=True):
        print(f"  {words} noticeable: eigenvalue {value:.3g}, residual {residual:.0e}, "
              f"strongest at {f:.3f} cycles/px")  # fmt: skip
    if out is not None:
        save_figure(eigendistortion_figure(found), out / f"{name}_eigendistortions.png")
    return found


def known_answer(model: Gaussian | CenterSurround, size: int) -> float:
    """Print the extremes of |H|^2; return the preferred frequency."""
    gain = model.transfer_function((size, size))[0].abs().square()
    preferred = float(frequencies(size).flatten()[gain.argmax()])
    print(f"  known: |H|^2 from {float(gain.min()):.1e} to {float(gain.max()):.3g}, "
          f"largest at {preferred:.3f} cycles/px")  # fmt: skip
    return preferred


# %% [markdown]
# ## Gain control: place matters
#
# The model divides by the local luminance, so that it is most sensitive where the picture is dark,
# and a distortion made for one place does less in another. In a linear model the place is free.


# %%
def where_it_sits(found: Eigendistortion, lg: LuminanceGainControl) -> float:
    """Print the luminance where the strongest distortion sits; return it over the mean."""
    luminance, energy = lg.luminance(found.image)[0, 0], found.eigendistortions[0, 0].square()
    there, mean = float((energy * luminance).sum()), float(luminance.mean())
    half = energy.flatten().sort(descending=True).values.cumsum(0) < 0.5
    area = float(half.float().mean())
    print(f"  its luminance {there:.3f}, the picture's {float(luminance.min()):.3f} to "
          f"{float(luminance.max()):.3f}, on average {mean:.3f};")  # fmt: skip
    print(f"  half of its energy lies on {area:.2%} of the picture")
    return there / mean


def effect_of_shifting(found: Eigendistortion, model: nn.Module) -> float:
    """Return how much of its effect the strongest distortion has elsewhere."""
    image, distortion = found.image, found.eigendistortions[:1]
    moved = distortion.roll(image.shape[-1] // 2, dims=-1)
    here, there = (float(l2_norm(model(image), model(image + d))) for d in (distortion, moved))
    print(f"  change of response to it: {here:.4f}; moved by half the picture: {there:.4f}")
    return there / here


# %%
def gains(image: Tensor, cs: CenterSurround, lg: LuminanceGainControl, out: Path) -> float:
    """Double the light and see what the responses do; return the change with gain control."""
    changes = []
    for name, model in (("centre-surround", cs), ("gain control", lg)):
        one, two = model(image), model(2 * image)
        changes.append(float((two - one).norm() / (one - one.mean()).norm()))
        print(
            f"  twice the light changes the response of {name} by {changes[-1]:.1%} of its spread"
        )
    titles = ["response", "response to twice the light"]
    figure = image_grid(
        [lg(image), lg(2 * image)], titles=titles, limits="auto1", width_in=2.6,
        label="response", title="with luminance gain control",
    )  # fmt: skip
    save_figure(figure, out / "luminance_gain_response.png")
    return changes[1]


def two_pictures(name: str, found: Eigendistortion, other: Eigendistortion, out: Path) -> None:
    """Show the strongest distortions of two pictures, and the first one moved."""
    strongest = [found.eigendistortions[0], other.eigendistortions[0]]
    moved = strongest[0].roll(found.image.shape[-1] // 2, dims=-1)
    pictures = [found.image[0], other.image[0], found.image[0]]
    changed = [p + 3 * d for p, d in zip(pictures, [*strongest, moved], strict=True)]
    titles = ["first picture + 3 x its own", "second picture + 3 x its own",
              "first picture + 3 x its own, moved"]  # fmt: skip
    figure = image_grid(
        [p.clamp(0, 1) for p in changed], titles=titles, limits=(0, 1), width_in=2.6,
        title=f"strongest distortions, {name.replace('_', ' ')}",
    )  # fmt: skip
    save_figure(figure, out / f"{name}_places.png")


# %% [markdown]
# ## From the first cell to the last


# %%
def blur(image: Tensor, starts: Tensor, out: Path) -> list[tuple[str, str]]:
    """Probe the blur; return claims and what was found."""
    print("\n## A blur\n")
    model = a_model_by_hand(image, out)
    kept = why_it_looks_like_static(metamer_of_the_blur(image, model, out), model, out)
    H = model.transfer_function(image.shape[-2:])[0]
    metamer = compare_starts("gaussian", image, model, starts, out)
    show_bands("blur", image, starts, metamer.metamer, H)
    unseen = H.abs().square() < 1e-6
    pairs = zip(starts, metamer.metamer, strict=True)
    shares = ", ".join(f"{alike(m[None], s[None], unseen):.0%}" for s, m in pairs)
    distortions("gaussian", image, model, out)
    known_answer(model, len(H))
    return [
        ("a metamer keeps of the white noise what the blur does not pass",
         f"{kept[0]} of it; {kept[1]} where values may leave 0 to 1"),
        ("it keeps that of any start: white noise, pink noise, a photograph", shares),
    ]  # fmt: skip


def bandpass(
    image: Tensor, other: Tensor, starts: Tensor, out: Path
) -> tuple[CenterSurround, list[tuple[str, str]]]:
    """Probe the centre-surround filter; return it, and claims with what was found."""
    print("\n## Centre and surround\n")
    model = CenterSurround(31, center_std=1.962, surround_std=4.235, pad_mode="circular")
    H = model.transfer_function(image.shape[-2:])[0]
    metamer = compare_starts("center_surround", image, model, starts, out)
    show_bands("centre-surround", image, starts, metamer.metamer, H)
    found = distortions("center_surround", image, model, out)
    preferred = known_answer(model, len(H))
    ratio = effect_of_shifting(found, model)
    second = distortions("center_surround, second picture", other, model)
    two_pictures("center_surround", found, second, out)
    return model, [
        ("centre-surround is band-pass: |H| at f = 0, relative to its largest",
         f"{float(H.abs()[0, 0] / H.abs().max()):.1e}"),
        ("its strongest distortion sits at its preferred frequency, cycles/px",
         f"{peak(found.eigendistortions[0]):.3f}, preferred {preferred:.3f}"),
        ("the strongest distortion of another picture has the same frequency",
         f"{peak(second.eigendistortions[0]):.3f}"),
        ("place does not matter: moved by half the picture it has the same effect",
         f"{ratio:.2f} of the effect in place"),
    ]  # fmt: skip


def gain_control(
    image: Tensor, other: Tensor, starts: Tensor, cs: CenterSurround, out: Path
) -> list[tuple[str, str]]:
    """Probe the model with luminance gain control; return claims and what was found."""
    print("\n## Luminance gain control\n")
    model = LuminanceGainControl(31, pad_mode="circular", pretrained=True)
    change = gains(image, cs, model, out)
    metamer = compare_starts("luminance_gain", image, model, starts, out)
    H = cs.transfer_function(image.shape[-2:])[0]
    show_bands("gain control", image, starts, metamer.metamer, H)
    f = frequencies(len(H))
    low = (f > 0) & (f < 3.1 / len(H))
    grey = ", ".join(f"{alike(m[None], image, low):.2f}" for m in metamer.metamer)
    found = distortions("luminance_gain", image, model, out)
    relative = where_it_sits(found, model)
    ratio = effect_of_shifting(found, model)
    second = distortions("luminance_gain, second picture", other, model)
    where_it_sits(second, model)
    two_pictures("luminance_gain", found, second, out)
    return [
        ("gain control makes the response nearly the same at twice the light", f"{change:.0%} off"),
        ("its metamers are greyer: their share of the picture's lowest frequencies", grey),
        ("its strongest distortion sits where the picture is dark", f"{relative:.2f} of the mean"),
        ("place matters: moved by half the picture the distortion is weaker",
         f"{ratio:.2f} of the effect in place"),
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Go through the whole tutorial."""
    parser = argparse.ArgumentParser(description="Ask three models what they see and do not see.")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels")
    parser.add_argument("--out", type=Path, default=Path("runs/probing-models"))
    chosen = parser.parse_args(arguments)
    image, other = photograph("camera", chosen.size), photograph("cat", chosen.size)
    starts = torch.cat([*noise_starts(chosen.size), other])
    titles = ["picture", "second picture", "white noise", "pink noise"]
    figure = image_grid([image, other, *starts[:2]], titles=titles, limits=(0, 1), columns=4)
    save_figure(figure, chosen.out / "pictures.png")
    claims = blur(image, starts, chosen.out)
    cs, more = bandpass(image, other, starts, chosen.out)
    claims += more + gain_control(image, other, starts, cs, chosen.out)
    print("\n## What is said about these models, and what was found\n")
    for claim, found in claims:
        print(f"  {claim}: {found}")
    print(f"\nFigures are in {chosen.out}. Papers to cite:\n")
    print(cite(LuminanceGainControl(31)))


if __name__ == "__main__":
    main()
