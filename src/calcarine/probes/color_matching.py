"""How many dimensions colour has: the colour-matching experiment on a model.

A test light matches a mixture of n primaries when both look the same; a primary with a negative
weight is added to the side of the test light. Colour is n-dimensional when n primaries suffice for
every test light and n - 1 do not.

    p(q)      = mean over cells of the percept of a uniform field q  -  that of darkness
    |p - p'|^2 = (p - p')^T Sigma (p - p'),   Sigma = mean of C C^T over cells
    residual  = |p(test + sum of w_k < 0) - p(sum of w_k > 0)| / |p(test)|

Sigma counts only what the cortex can express. Without it an untrained cortex already looks
three-dimensional, because a random network turns mosaic texture into arbitrary latents.

Weights come from a linear least-squares fit, in percept space and in cone space, and are refined
through the model itself by Levenberg-Marquardt steps: the percept is not additive, so the linear
fit alone is not the best match. With as many primaries as cone types an exact match exists.

Axes    L lights | T cone types | K latent | N primaries | B batch
Source  maxwell1860, grassmann1853 (the experiment); the metric is ours
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.color import cone_fundamentals
from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.probes._match_refinement import See, refine_weights

__all__ = ["ColorMatching", "color_matching", "perfect_observer"]

THRESHOLD = 0.015
"""Mean relative residual below which lights count as matched; ours."""

MOST_SETS = 6000
"""Sets of primaries tried for one n; beyond that a seeded sample is drawn; ours."""

_BATCH = 16


@dataclass(frozen=True)
class ColorMatching:
    """Outcome of a colour-matching experiment; index n - 1 of every list belongs to n primaries.

    Args:
        wavelengths_nm: Wavelengths of the test lights.
        mean_residual: Mean relative residual over the test lights.
        max_residual: The largest one.
        linear_residual: Mean residual before refinement through the model.
        observer_residual: Mean residual of the perfect observer of the same cones.
        primaries_nm: The primaries chosen.
        singular_values: Singular values of the percepts of all lights, the largest set to 1.
        threshold: Mean residual below which the lights count as matched.
        residuals: Residual of every light, by number of primaries.
        noise_floor: Residual of every light against itself, seen twice with the noise of the
            retina; empty if not measured.
    """

    wavelengths_nm: tuple[float, ...]
    mean_residual: tuple[float, ...]
    max_residual: tuple[float, ...]
    linear_residual: tuple[float, ...]
    observer_residual: tuple[float, ...]
    primaries_nm: tuple[tuple[float, ...], ...]
    singular_values: tuple[float, ...]
    threshold: float = THRESHOLD
    residuals: tuple[tuple[float, ...], ...] = ()
    noise_floor: tuple[float, ...] = ()

    @property
    def mean_noise(self) -> float:
        """Mean of the noise floor over the lights; NaN if it was not measured."""
        return sum(self.noise_floor) / len(self.noise_floor) if self.noise_floor else float("nan")

    @property
    def dimension(self) -> int | None:
        """Fewest primaries that match every light, or ``None`` if the most tried do not."""
        matched = [n for n, mean in enumerate(self.mean_residual, 1) if mean < self.threshold]
        return matched[0] if matched else None

    @property
    def ratio_to_observer(self) -> tuple[float, ...]:
        """Residual relative to the perfect observer; NaN where that one matches exactly."""
        pairs = zip(self.mean_residual, self.observer_residual, strict=True)
        return tuple(m / o if o > 1e-6 else float("nan") for m, o in pairs)

    def verdict(self) -> str:
        """Say the result in one sentence."""
        if self.dimension is None:
            return f"colour has more than {len(self.mean_residual)} dimensions"
        return f"colour has {self.dimension} dimension{'s' if self.dimension > 1 else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, the dimension included."""
        return {**self.__dict__, "dimension": self.dimension}


def _lights(
    peaks_nm: Sequence[float], wavelengths_nm: Sequence[float], level: float
) -> Float[Tensor, "L T"]:
    """Return the cone signals of narrow-band lights, all of the same norm."""
    fundamentals = cone_fundamentals(peaks_nm)
    index = torch.tensor([round(w) - 400 for w in wavelengths_nm])
    signals = fundamentals[index]
    return level * signals / torch.linalg.vector_norm(signals, dim=1, keepdim=True)


def _check_wavelengths(
    wavelengths_nm: Sequence[float] | None, most_primaries: int
) -> tuple[float, ...]:
    chosen = tuple(
        float(w) for w in (range(400, 701, 10) if wavelengths_nm is None else wavelengths_nm)
    )
    outside = [w for w in chosen if not 400 <= w <= 700 or w != round(w)]
    if outside or not 1 <= most_primaries < len(chosen):
        raise InputError(
            "color_matching expected whole wavelengths within 400..700 nm and fewer primaries "
            f"than lights, got {len(chosen)} lights, {most_primaries} primaries; unusable "
            f"wavelengths: {outside[:5]}."
        )
    return chosen


def _sets(lights: int, count: int, generator: torch.Generator) -> Tensor:
    """Return sets of primaries as indices (sets, count): all of them, or a seeded sample."""
    total = torch.tensor(list(itertools.combinations(range(lights), count)))
    if len(total) <= MOST_SETS:
        return total
    return total[torch.randperm(len(total), generator=generator)[:MOST_SETS]]


def _fit(percepts: Float[Tensor, "L K"], sets: Tensor) -> tuple[Tensor, Tensor]:
    """Fit every light by every set: weights (sets, N, L) and relative residuals (sets, L)."""
    basis = percepts[sets].transpose(1, 2)
    weights = torch.linalg.pinv(basis, rtol=1e-9) @ percepts.T
    error = torch.linalg.vector_norm(basis @ weights - percepts.T, dim=1)
    return weights, error / torch.linalg.vector_norm(percepts, dim=1)


def _best_fit(
    percepts: Float[Tensor, "L K"], count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the set with the smallest mean residual, its weights (L, N) and residuals (L,)."""
    sets = _sets(len(percepts), count, generator)
    best: tuple[float, Tensor, Tensor, Tensor] | None = None
    for some in sets.split(1024):
        weights, residual = _fit(percepts, some)
        index = int(residual.mean(dim=1).argmin())
        mean = float(residual[index].mean())
        if best is None or mean < best[0]:
            best = (mean, some[index], weights[index].T, residual[index])
    assert best is not None
    return best[1:]


def perfect_observer(
    peaks_nm: Sequence[float] = (560.0, 530.0, 419.0),
    *,
    most_primaries: int = 5,
    wavelengths_nm: Sequence[float] | None = None,
    seed: int = 0,
) -> ColorMatching:
    """Run the experiment on cone space itself: the best that any cortex behind these cones can do.

    Args:
        peaks_nm: Peaks of the pigments, before the lens.
        most_primaries: Largest number of primaries to try.
        wavelengths_nm: Test lights; whole numbers within 400..700, by default every 10 nm.
        seed: Seed of the sample of sets, where there are too many for all.

    Raises:
        InputError: If wavelengths or the number of primaries cannot be used.
    """
    chosen = _check_wavelengths(wavelengths_nm, most_primaries)
    lights = _lights(peaks_nm, chosen, 1.0)
    generator = torch.Generator().manual_seed(seed)
    residuals, primaries = [], []
    for count in range(1, most_primaries + 1):
        picked, _, residual = _best_fit(lights, count, generator)
        residuals.append(residual)
        primaries.append(tuple(chosen[i] for i in picked.tolist()))
    means = tuple(float(residual.mean()) for residual in residuals)
    return ColorMatching(
        chosen, means, tuple(float(residual.max()) for residual in residuals), means, means,
        tuple(primaries), _singular_values(lights), residuals=_plain(residuals),
    )  # fmt: skip


def _plain(residuals: Sequence[Tensor]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(residual.tolist()) for residual in residuals)


def _singular_values(percepts: Tensor) -> tuple[float, ...]:
    values = torch.linalg.svdvals(percepts)
    return tuple((values / values[0]).tolist())


class _Observer:
    """Percepts of uniform fields, in coordinates where plain distance is perceived distance."""

    def __init__(self, retina: Any, decode: See, metric: Tensor | None, border: int) -> None:
        self.retina, self.decode, self.border = retina, decode, border
        self.root = None if metric is None else _matrix_root(metric)
        self.dark = torch.zeros(())
        self.dark = self(torch.zeros(1, retina.mosaic.shape[0], dtype=torch.float64))

    def __call__(self, signals: Float[Tensor, "B T"]) -> Float[Tensor, "B K"]:
        return self._percepts(signals, self.retina.snapshot)

    def noise(
        self, signals: Float[Tensor, "B T"], generator: torch.Generator
    ) -> Float[Tensor, " B"]:
        """Return how much two looks at the same lights differ, through a retina with noise."""

        def look(scene: Tensor) -> Tensor:
            nerve = self.retina(scene, generator).optic_nerve[:, 0]
            return nerve if nerve.ndim == 4 else nerve[:, None]

        modes = {module: module.training for module in self.retina.modules()}
        try:
            self.retina.train()
            looks = [self._percepts(signals, look) for _ in range(2)]
        finally:
            for module, mode in modes.items():
                module.training = mode
        return torch.linalg.vector_norm(looks[0] - looks[1], dim=1)

    def _percepts(self, signals: Tensor, look: See) -> Float[Tensor, "B K"]:
        mosaic, window = self.retina.mosaic, self.retina.window
        percepts = []
        for some in signals.to(mosaic).split(_BATCH):
            scene = some[:, :, None, None].expand(-1, -1, window, window)
            percept = self.decode(look(scene))
            if percept.ndim != 4:
                raise ShapeError(
                    "color_matching expected decode to return axes (batch, latent, height, width), "
                    f"got shape {tuple(percept.shape)}."
                )
            height, width = percept.shape[2:]
            rows, columns = (slice(self.border, side - self.border) for side in (height, width))
            percepts.append(percept[..., rows, columns].double().mean(dim=(2, 3)))
        seen = torch.cat(percepts)
        if not torch.isfinite(seen).all():
            raise NonFiniteError("The percept of a uniform field holds NaN or infinity.")
        if self.root is not None:
            if self.root.shape[0] != seen.shape[1]:
                raise ShapeError(
                    f"color_matching expected a metric for {seen.shape[1]} latents, got "
                    f"{tuple(self.root.shape)}."
                )
            seen = seen @ self.root
        return (seen - self.dark.to(seen)).cpu()


def _matrix_root(metric: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(metric.double())
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


@torch.no_grad()
def color_matching(
    retina: Any,
    decode: See,
    *,
    metric: Float[Tensor, "K K"] | None = None,
    most_primaries: int = 5,
    wavelengths_nm: Sequence[float] | None = None,
    border: int | None = None,
    level: float = 0.5,
    refine: bool = True,
    threshold: float = THRESHOLD,
    seed: int = 0,
    noise_draws: int = 8,
    progress: Callable[[str], None] | None = None,
) -> ColorMatching:
    """Measure how many dimensions colour has behind a retina.

    Args:
        retina: A :class:`calcarine.retina.Retina`; lights are matched without noise or movement.
        decode: The model: optic nerve (batch, 1, height, width) -> percept (batch, latent, h, w).
        metric: Sigma, which percept differences count, for example ``cortex.identity.metric()``.
            ``None`` counts all of them.
        most_primaries: Largest number of primaries to try.
        wavelengths_nm: Test lights; whole numbers within 400..700, by default every 10 nm.
        border: Points at every edge of the percept left out of the mean; default an eighth of it.
        level: Cone-space norm of the lights; white at full brightness has about 1 for three cones.
        refine: Whether to refine the linear fit through the model.
        threshold: Mean residual below which lights count as matched.
        seed: Seed of the sample of sets, where there are too many for all, and of the noise.
        noise_draws: Pairs of noisy looks at every light from which the noise floor is told; 0
            leaves it out.
        progress: Called with a line of text before each n.

    Raises:
        InputError: If wavelengths, primaries or the border cannot be used.
        NonFiniteError: If a percept holds NaN or infinity.
    """
    chosen = _check_wavelengths(wavelengths_nm, most_primaries)
    border = retina.mosaic.shape[-1] // 8 if border is None else border
    if border < 0 or 2 * border >= retina.mosaic.shape[-1]:
        raise InputError(f"color_matching expected a border below half the retina, got {border}.")
    present = retina.mosaic.flatten(1).sum(dim=1).cpu() > 0
    peaks = [p for p, there in zip(retina.peaks_nm, present.tolist(), strict=True) if there]
    lights = torch.zeros(len(chosen), len(present), dtype=torch.float64)
    lights[:, present] = _lights(peaks, chosen, level)
    see = _Observer(retina, decode, metric, border)
    percepts = see(lights)
    scale = torch.linalg.vector_norm(percepts, dim=1)
    if scale.min() <= 0:
        raise InputError("A light looks like darkness to this model; nothing can be matched to it.")
    observer = perfect_observer(
        peaks, most_primaries=most_primaries, wavelengths_nm=chosen, seed=seed
    )
    residuals, linear, primaries = [], [], []
    for count in range(1, most_primaries + 1):
        if progress is not None:
            progress(f"matching {len(chosen)} lights with {count} of {most_primaries} primaries")
        generator = torch.Generator().manual_seed(seed)
        picked, weights, residual = _best_fit(percepts, count, generator)
        linear.append(float(residual.mean()))
        if refine:
            in_cone_space = _fit(lights[:, present], picked[None])[0][0].T
            starts = (weights, in_cone_space)
            residual = refine_weights(see, lights, lights[picked], starts, scale)
        residuals.append(residual)
        primaries.append(tuple(chosen[i] for i in picked.tolist()))
    draw = torch.Generator().manual_seed(seed)
    noise = [see.noise(lights, draw) / scale for _ in range(noise_draws)]
    return ColorMatching(
        chosen, tuple(float(residual.mean()) for residual in residuals),
        tuple(float(residual.max()) for residual in residuals), tuple(linear),
        observer.mean_residual, tuple(primaries), _singular_values(percepts), threshold,
        _plain(residuals), tuple(torch.stack(noise).mean(dim=0).tolist()) if noise else (),
    )  # fmt: skip
