"""CordsNet: a convolutional network of 2 to 8 areas that lives in continuous time.

    tau dr_k/dt = -r_k + relu(W_k * r_k + b_k + V_k * u_k)        Euler steps of dt
    u_1 = h    u_2 = r_1 + S_2 * h    u_k = r_k-1 + r_k-2 (k odd)    r_k-1 + S_k * r_k-2 (k even)
    h = 3 x 3 average pool (7 x 7 stem * image)
    logits = linear (average over positions of r_last + r_before)

    area       1   2   3    4    5    6    7    8
    channels  64  64  128  128  256  256  512  512
    side      56  56   28   28   14   14    7    7    for images of 224 x 224

All areas step at once, each from the rates before the step, so that a signal passes one connection
per step. A trial starts from 0, relaxes without input and then sees the image.

Axes    T time | B batch | c channels of the image | C channels | H W rows down, columns right
Units   time in ms
Source  soo2024; weight normalisation salimans2016; gradient at the fixed point bai2019
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from calcarine.constants import Value
from calcarine.cortex.recurrent_area import RecurrentArea
from calcarine.errors import InputError, UnknownNameError
from calcarine.models._baseline_cache import BaselineCache
from calcarine.models._cordsnet_checks import (
    check_images,
    check_state,
    checked_size,
    chosen_areas,
    per_area,
)
from calcarine.models._cordsnet_dynamics import (
    NetworkWeights,
    Rates,
    expanded,
    flickering,
    largest_change,
    off_on_off,
    relaxed,
    summed,
    unroll,
)
from calcarine.models._cordsnet_kernel import PackCache
from calcarine.models._cordsnet_layout import area_layouts, new_skip, new_stem
from calcarine.models._cordsnet_published import take_over
from calcarine.models._cordsnet_settling import CHECK_EVERY, settle
from calcarine.models._cordsnet_state import CordsNetState, Equilibrium, as_state
from calcarine.stage import FusedStage, steps_of

__all__ = ["CordsNet", "CordsNetState", "Equilibrium"]

Gradient = Literal["steps", "fixed_point"]


class CordsNet(FusedStage):
    """Recurrent convolutional dynamical system for images and movies; one step of dt per call.

    >>> model = CordsNet(depth=2, classes=10, image_size=32).eval()
    >>> model.classify(torch.rand(4, 3, 32, 32)).shape
    torch.Size([4, 10])

    As a stage it takes one frame per step and puts out the logits of that moment. Areas are named
    ``area1`` to ``area8``, for recordings and readouts.

    Args:
        depth: Number of areas: 2, 4, 6 or 8, the R2 to R8 of soo2024.
        classes: Number of classes.
        channels: Channels of the image.
        image_size: Height and width of the image, px, or one number for both; any size.
        dt_ms: Duration of one step, ms. soo2024: 2. Weights do not depend on it.
        tau_ms: Time constant, ms, at least ``dt_ms``: a number, or one entry per area, each a
            number or numbers per channel or unit. soo2024: 10.
        learnable: Whether time constants are learned, those of each area on their own.

    Raises:
        InputError: If the depth is none of these, a count is not positive, or a time constant is
            shorter than a step.
    """

    sources: ClassVar[tuple[str, ...]] = ("bai2019", "salimans2016", "soo2024")

    def __init__(
        self,
        *,
        depth: Literal[2, 4, 6, 8] = 8,
        classes: int = 1000,
        channels: int = 3,
        image_size: int | tuple[int, int] = 224,
        dt_ms: float = 2.0,
        tau_ms: float | Sequence[Value] = 10.0,
        learnable: bool = False,
    ) -> None:
        super().__init__()
        self.size = checked_size(depth, classes, channels, image_size)
        self.depth, self.classes = depth, classes
        self.channels, self.image_size = channels, image_size
        self.dt_ms, self.tau_ms, self.learnable = float(dt_ms), tau_ms, bool(learnable)
        self.stem, self.skip2 = weight_norm(new_stem(channels)), weight_norm(new_skip())
        layouts = area_layouts(depth, self.size)
        for layout, tau in zip(layouts, per_area(tau_ms, depth), strict=True):
            area = RecurrentArea(
                in_channels=layout.below, channels=layout.channels, size=layout.size,
                stride=layout.stride, dt_ms=dt_ms, tau_ms=tau, learnable=learnable,
            )  # fmt: skip
            self.add_module(f"area{layout.number}", area)
            if layout.skipped:
                self.add_module(f"skip{layout.number}", weight_norm(new_skip(layout)))
        self.readout = weight_norm(nn.Linear(layouts[-1].channels, classes))
        self._cache, self._packs = BaselineCache(), PackCache()

    @property
    def areas(self) -> tuple[RecurrentArea, ...]:
        """The areas, first to last."""
        return tuple(getattr(self, f"area{k}") for k in range(1, self.depth + 1))

    def folded(self) -> NetworkWeights:
        """Return all weights with weight normalisation carried out, differentiable.

        Its methods advance rates without folding again: what loops over many steps should use.
        """
        skips = (getattr(self, f"skip{k}").weight for k in range(2, self.depth + 1, 2))
        areas = tuple(area.folded() for area in self.areas)
        linear = self.readout
        return NetworkWeights(
            self.stem.weight, areas, tuple(skips), linear.weight, linear.bias, self._packs
        )

    def initial_state(self, like: Float[Tensor, "B c H W"]) -> CordsNetState:
        """Return rates of 0 for images of the shape of ``like``."""
        self._check(like, (4,))
        shapes = [(like.shape[0], *area.bias.shape) for area in self.areas]
        return as_state(tuple(like.new_zeros(shape) for shape in shapes))

    def baseline(self, like: Float[Tensor, "B c H W"], warmup_ms: float = 200.0) -> CordsNetState:
        """Return the state after relaxing without input, which is the same for every image.

        It carries no gradient, as in soo2024, and is kept while no weight requires one.

        Args:
            like: Images; only their number counts.
            warmup_ms: How long, a multiple of ``dt_ms``.

        Raises:
            InputError: If the time is not a multiple of the step.
            ShapeError: If the images do not fit the model.
        """
        self._check(like, (4,))
        return as_state(self._rest(self.folded(), warmup_ms, like.shape[0]))

    def forward(
        self, x: Float[Tensor, "B c H W"], state: CordsNetState
    ) -> tuple[Float[Tensor, "B classes"], CordsNetState]:
        """Advance all areas by one step while they look at ``x``.

        Args:
            x: Image, axes (batch, channel, height, width).
            state: What the last step returned, ``initial_state(x)`` or ``baseline(x)``.

        Returns:
            Logits after the step, and the new state.

        Raises:
            ShapeError: If image or state do not fit the model.
        """
        self._check(x, (4,))
        self._rates(state, x.shape[0])
        h = F.avg_pool2d(self.stem(x), 3, 2, 1)
        seen = [torch.relu(area.r) for area in state.areas]
        after = []
        for k, (area, before) in enumerate(zip(self.areas, state.areas, strict=True)):
            below = h if k < 2 else seen[k - 2]
            if k % 2:
                below = getattr(self, f"skip{k + 1}")(below)
            u = h if k == 0 else seen[k - 1] + below
            after.append(area(u, before)[1])
        return self.readout(summed([area.r for area in after])), CordsNetState(tuple(after))

    def scan(
        self, movie: Float[Tensor, "T B c H W"], state: CordsNetState
    ) -> tuple[Float[Tensor, "T B classes"], CordsNetState]:
        """Advance over a movie, one frame per step; a movie that stands still costs one stem."""
        self._check(movie, (5,))
        weights, rates = self.folded(), self._rates(state, movie.shape[1])
        logits = []
        for after in unroll(weights, rates, movie, movie.shape[0]):
            logits.append(weights.logits(after))
            rates = after
        return torch.stack(logits), as_state(rates)

    def classify(
        self,
        images: Float[Tensor, "B c H W"] | Float[Tensor, "T B c H W"],
        warmup_ms: float = 200.0,
        stimulus_ms: float = 200.0,
        converged: float | None = None,
        gradient: Gradient = "steps",
    ) -> Float[Tensor, "B classes"]:
        """Show images, or movies with one frame per step, after a time without input.

        Args:
            images: Axes (batch, channel, height, width), or (time, ...) of these.
            warmup_ms: Time without input, a multiple of ``dt_ms``; it carries no gradient.
            stimulus_ms: How long an image is shown, a multiple of ``dt_ms``; no effect on movies.
            converged: Stop before that when no rate of the batch changes any more by this share
                of the largest rate in one step. ``None`` always takes all steps.
            gradient: ``"steps"`` differentiates all steps; ``"fixed_point"`` the state they lead
                to, in the memory of one step, see :meth:`settle`; tau has no gradient then.

        Returns:
            Logits at the end.

        Raises:
            InputError: If a time is not a multiple of the step, or a movie is to have settled.
            ShapeError: If the images do not fit the model.
            UnknownNameError: If ``gradient`` is neither.
        """
        if gradient not in ("steps", "fixed_point"):
            raise UnknownNameError("gradient", gradient, ("steps", "fixed_point"))
        self._check(images, (4, 5))
        if images.ndim == 5 and (converged is not None or gradient == "fixed_point"):
            raise InputError(
                "CordsNet settles on images, not on movies. Leave out converged and gradient."
            )
        if gradient == "fixed_point":
            tolerance = 1e-4 if converged is None else converged
            return self.settle(images, tolerance, warmup_ms, stimulus_ms).logits
        weights = self.folded()
        rates = self._rest(weights, warmup_ms, images.shape[-4])
        steps = images.shape[0] if images.ndim == 5 else self._steps("stimulus_ms", stimulus_ms)
        for step, after in enumerate(unroll(weights, rates, images, steps), start=1):
            before, rates = rates, after
            looking = converged is not None and step % CHECK_EVERY == 0
            if looking and float(largest_change(before, after)) <= (converged or 0.0):
                break
        return weights.logits(rates)

    def settle(
        self,
        images: Float[Tensor, "B c H W"],
        tolerance: float = 1e-5,
        warmup_ms: float = 200.0,
        longest_ms: float = 2000.0,
    ) -> Equilibrium:
        """Show images until nothing changes; gradients are those of the fixed point itself.

        Implicit differentiation: the backward pass solves a linear system at the fixed point, so
        memory does not depend on how long it took. First derivatives only. A network that does
        not settle warns and says so in the result, and so does a backward pass that does not.

        Args:
            images: Axes (batch, channel, height, width).
            tolerance: Largest change of a rate in one step, relative to the largest rate; also
                that of the linear system.
            warmup_ms: Time without input before, a multiple of ``dt_ms``.
            longest_ms: When to give up, a multiple of ``dt_ms``.

        Raises:
            InputError: If the tolerance is not positive or a time not a multiple of the step.
            ShapeError: If the images do not fit the model.
        """
        self._check(images, (4,))
        weights = self.folded()
        rates = self._rest(weights, warmup_ms, images.shape[0])
        limit = self._steps("longest_ms", longest_ms)
        found = settle(weights, rates, images, tolerance=tolerance, limit=limit)
        logits, state = weights.logits(found.rates), as_state(found.rates)
        converged = found.residual <= tolerance
        return Equilibrium(logits, state, found.steps, found.residual, converged, found.adjoint)

    def trial(
        self,
        images: Float[Tensor, "B c H W"] | Float[Tensor, "T B c H W"],
        warmup_ms: float = 200.0,
        stimulus_ms: float = 200.0,
        off_ms: float = 0.0,
        state: CordsNetState | None = None,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Float[Tensor, "B C H W"], ...]]:
        """Yield the rates of all areas after every step of a trial: off, on, off.

        The first time without input carries no gradient, as in soo2024.

        Args:
            images: As for :meth:`classify`.
            warmup_ms: Time without input before, a multiple of ``dt_ms``.
            stimulus_ms: How long an image is shown; a movie lasts as long as it has frames.
            off_ms: Time without input after.
            state: Where to start; rates of 0 where left out.
            noise: Standard deviation of Gaussian noise added to the image anew in every step.
            generator: Draws the noise, on the device of the images.

        Raises:
            InputError: If a time is not a multiple of the step, all of them are 0, or the noise is
                below 0.
            ShapeError: If images or state do not fit the model.
        """
        self._check(images, (4, 5))
        off, after = self._steps("warmup_ms", warmup_ms), self._steps("off_ms", off_ms)
        on = images.shape[0] if images.ndim == 5 else self._steps("stimulus_ms", stimulus_ms)
        if off + on + after == 0:
            raise InputError("CordsNet expected a trial of at least one step, got none.")
        if not 0 <= noise < math.inf:
            raise InputError(f"CordsNet expected noise of at least 0, got {noise}.")
        weights, batch = self.folded(), images.shape[-4]
        start = weights.zero() if state is None else self._rates(state, batch)
        shown = flickering(images, on, noise, generator) if noise else images
        return off_on_off(weights, start, shown, (off, on, after), batch)

    def trace(
        self,
        images: Float[Tensor, "B c H W"] | Float[Tensor, "T B c H W"],
        areas: Sequence[int] | None = None,
        warmup_ms: float = 200.0,
        stimulus_ms: float = 200.0,
        off_ms: float = 0.0,
        measure: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[int, Float[Tensor, "T B ..."]]:
        """Return activity over a whole trial: without input, with the image, and after it.

        Args:
            images: As for :meth:`classify`.
            areas: Numbers of areas from 1; ``None`` for all.
            warmup_ms: Time without input before, a multiple of ``dt_ms``.
            stimulus_ms: How long an image is shown; a movie lasts as long as it has frames.
            off_ms: Time without input after.
            measure: What to keep of the rates (batch, channel, height, width) of each step, for
                example ``lambda r: r.mean((1, 2, 3))``. ``None`` keeps all of them.

        Returns:
            Area number to activity, axes (time, batch, ...).

        Raises:
            UnknownNameError: If there is no such area.
            InputError: If a time is not a multiple of the step, or all of them are 0.
            ShapeError: If the images do not fit the model.
        """
        self._check(images, (4, 5))
        chosen = chosen_areas(areas, self.depth)
        keep = measure or (lambda r: r)
        kept: dict[int, list[Tensor]] = {area: [] for area in chosen}
        for rates in self.trial(images, warmup_ms, stimulus_ms, off_ms):
            for area, values in kept.items():
                values.append(keep(rates[area - 1]))
        return {area: torch.stack(values) for area, values in kept.items()}

    def load_published(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load a published checkpoint, whose names may start with ``module.``.

        Args:
            state_dict: Name to tensor, read with ``torch.load(path, weights_only=True)``.

        Raises:
            InputError: If a tensor is missing, unknown or not finite; nothing is loaded then.
            ShapeError: If one has another shape; nothing is loaded then.
        """
        mine = {n: p for n, p in self.named_parameters() if ".tau." not in n}
        take_over(state_dict, mine, self.size)

    def _rest(self, weights: NetworkWeights, warmup_ms: float, batch: int) -> Rates:
        """Return the rates after relaxing without input, from memory where weights are fixed."""
        steps = self._steps("warmup_ms", warmup_ms)
        compute = partial(relaxed, weights.detached(), steps)
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters()):
            with torch.no_grad():
                return expanded(compute(), batch)
        inner = [*self.areas, *(getattr(self, f"skip{k}") for k in range(4, self.depth + 1, 2))]
        tensors = [t for part in inner for t in part.state_dict(keep_vars=True).values()]
        device = weights.stem.device.type
        autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        return expanded(self._cache.get(tensors, (self.dt_ms, autocast), steps, compute), batch)

    def _steps(self, name: str, time_ms: float) -> int:
        return steps_of("CordsNet", name, time_ms, self.dt_ms)

    def _check(self, images: Tensor, axes: tuple[int, ...]) -> None:
        check_images(images, axes, (self.channels, *self.size))

    def _rates(self, state: CordsNetState, batch: int) -> Rates:
        """Return the rates of a state that fits."""
        rates = tuple(area.r for area in state.areas)
        check_state(rates, batch, [tuple(area.bias.shape) for area in self.areas])
        return rates

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"depth={self.depth}, image_size={self.size}, dt_ms={self.dt_ms:g}"
