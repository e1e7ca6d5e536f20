"""Learning to see in continuous time: a CordsNet from its feed-forward twin, phase by phase.

    twin        a feed-forward network with batch normalisation learns the classes
    inverse     it is folded; every area learns a recurrence that settles where the twin is
    linear      the whole network in time, areas linear, learns the classes
    annealing   the slope of negative drive falls, max(0, 0.95 - 0.05 k) in the k-th of 20 parts
    finetune    the same with relu
    direct      the control: the same trials with relu, from random weights

Phases come in the order of the settings, and any may be left out; without phases the network
learns as in ``finetune``, from random weights. Loss and times: :mod:`.cordsnet_trial`,
:mod:`.cordsnet_inverse`; the linear phase ends with the image, without a time after it.

Axes    B batch | c channels of the image | C channels | H W rows down, columns right | K classes
Units   time in ms
Source  soo2024
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from calcarine.distributed import world
from calcarine.errors import InputError, UnknownNameError
from calcarine.models.cordsnet_twin import CordsNetTwin, FoldedTwin, start_from
from calcarine.models.soo2024 import CordsNet
from calcarine.stage import steps_of
from calcarine.stimuli import DigitsData, LabeledBatch, NamedData
from calcarine.training.cordsnet_inverse import inverse_loss
from calcarine.training.cordsnet_trial import Trial, return_distances, trial_answers, trial_loss
from calcarine.training.precision import multiply_in, resolve_precision
from calcarine.training.task import GradientTask, Probed, Step

__all__ = ["PHASES", "CordsNetTask", "CordsNetView"]

PHASES = ("twin", "inverse", "linear", "annealing", "finetune", "direct")

LEVELS, FIRST_SLOPE, SLOPE_STEP = 20, 0.95, 0.05
"""Parts of the annealing, slope in the first, and its fall from one to the next. soo2024."""

RETURN_IMAGES, RETURN_MS = 32, 200.0
"""Held-out pictures after which the return to the baseline is measured, and when. Ours."""


class CordsNetView(nn.Module):
    """What probes see of the network: its logits for pictures, as a representation without place.

    Args:
        model: The network.
        data: Knows how pictures are shown to it.
        warmup_ms: Time without input before.
        stimulus_ms: How long pictures are shown.
    """

    def __init__(
        self, model: CordsNet, data: DigitsData | NamedData, warmup_ms: float, stimulus_ms: float
    ) -> None:
        super().__init__()
        self.model, self.data = model, data
        self.warmup_ms, self.stimulus_ms = warmup_ms, stimulus_ms

    def forward(self, image: Float[Tensor, "B c H W"]) -> Float[Tensor, "B 1 K"]:
        """Return the logits of pictures in code values."""
        shown = self.data.normalised(self.data.fit(image))
        return self.model.classify(shown, self.warmup_ms, self.stimulus_ms)[:, None]


class CordsNetTask(GradientTask):
    """A CordsNet, its twin, its directly trained control, and the pictures they learn from.

    Args:
        data: Labeled pictures.
        model: The network; classes, channels and size are those of the data.
        batch_size: Pictures in a batch of the twin and of the inverse. soo2024: 256.
        trial_batch_size: Pictures in a batch of trials; 0 for as many. Ours.
        control: Whether there is a second network for the phase ``direct``.
        evaluate_every: Updates between two looks at the held-out pictures; at the end of every
            phase there is one, too. Ours.
        warmup_ms: Time without input before a picture. soo2024: 200, as the two below.
        stimulus_ms: Time with the picture.
        off_ms: Time without input after it.
        readout_steps: How many of the last steps with the picture count. soo2024: 30.
        settle_steps: How many of the last steps after it are compared to the baseline. soo2024: 10.
        settle_weight: Weight of that distance. soo2024: 1e-3.
        inverse_terms: How often the recurrence acts in the inverse. soo2024: 3.
        remainder_weight: Weight of what is left after that in the inverse. soo2024: 10.
        label_smoothing: Share of the probability given to all classes alike. soo2024: 0.
        checkpoint_steps: Steps computed anew in the backward pass, together: less memory for a
            third more time. 0 keeps every step.
        precision: In which precision convolutions multiply while learning: ``"fp32"``, ``"bf16"``
            with sums in fp32, or ``"auto"``, bf16 where the hardware has matrix units for it.

    Raises:
        InputError: If network and data do not fit, or a number is out of its range.
    """

    sources: ClassVar[tuple[str, ...]] = ("soo2024", "salimans2016", "ioffe2015")
    shares: ClassVar[bool] = True

    def __init__(
        self,
        *,
        data: DigitsData | NamedData,
        model: CordsNet,
        batch_size: int = 256,
        trial_batch_size: int = 0,
        control: bool = True,
        evaluate_every: int = 500,
        warmup_ms: float = 200.0,
        stimulus_ms: float = 200.0,
        off_ms: float = 200.0,
        readout_steps: int = 30,
        settle_steps: int = 10,
        settle_weight: float = 1e-3,
        inverse_terms: int = 3,
        remainder_weight: float = 10.0,
        label_smoothing: float = 0.0,
        checkpoint_steps: int = 0,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
    ) -> None:
        resolve_precision(precision, torch.device("cpu"))
        self.data, self.model, self.control = data, model, control
        self.batch_size, self.trial_batch_size = batch_size, trial_batch_size
        self.evaluate_every, self.label_smoothing = evaluate_every, label_smoothing
        self.warmup_ms, self.stimulus_ms, self.off_ms = warmup_ms, stimulus_ms, off_ms
        self.readout_steps, self.settle_steps = readout_steps, settle_steps
        self.settle_weight, self.checkpoint_steps = settle_weight, checkpoint_steps
        self.inverse_terms, self.remainder_weight = inverse_terms, remainder_weight
        self.precision = precision
        self._check()
        self.twin = CordsNetTwin(
            depth=model.depth, classes=model.classes, channels=model.channels,
            image_size=model.image_size,
        )  # fmt: skip
        self.direct = _another(model) if control else None
        self.trial = Trial(
            warmup=steps_of("CordsNetTask", "warmup_ms", warmup_ms, model.dt_ms),
            on=steps_of("CordsNetTask", "stimulus_ms", stimulus_ms, model.dt_ms),
            off=steps_of("CordsNetTask", "off_ms", off_ms, model.dt_ms),
            readout=readout_steps,
            settle=settle_steps,
            settle_weight=settle_weight,
            checkpoint=checkpoint_steps,
        )
        self.phase, self.slope = "", 0.0
        self._folded: FoldedTwin | None = None
        self._batches: Iterator[LabeledBatch] | None = None
        self._seed, self._drawn = -1, 0
        self._seen: dict[str, float] = {}
        self._parts: dict[str, Tensor] = {}

    def modules(self) -> dict[str, nn.Module]:
        """Return the network, its twin, and the control if there is one."""
        control = {} if self.direct is None else {"direct": self.direct}
        return {"twin": self.twin, "model": self.model, **control}

    def probed(self) -> Probed:
        """Return the network: picture to logits."""
        view = CordsNetView(self.model, self.data, self.warmup_ms, self.stimulus_ms)
        return Probed(view, self.data.channels, self.data.size)

    def enter(self, phase: str, *, resumed: bool) -> None:
        """Begin a phase; the twin is folded into the network when ``inverse`` begins.

        Raises:
            UnknownNameError: If there is no such phase.
            InputError: If the phase is that of the control and there is none.
        """
        if phase not in PHASES:
            raise UnknownNameError("phase", phase, PHASES)
        if phase == "direct" and self.direct is None:
            raise InputError(
                "The phase direct trains the control, but control is false. Set control=true, or "
                "leave the phase out with training.phases.direct.updates=0."
            )
        self.phase, self.slope = phase, 1.0 if phase in ("inverse", "linear") else 0.0
        self._folded, self._batches = None, None
        if phase == "inverse" and not resumed:
            start_from(self.model, self.twin.folded())

    def objectives(self) -> dict[str, list[nn.Parameter]]:
        """Return what the phase teaches: in ``inverse`` each area's recurrence on its own."""
        if self.phase == "inverse":
            return {
                f"area{k}": [*area.recurrent.parameters(), area.bias]
                for k, area in enumerate(self.model.areas, start=1)
            }
        network = self._network()
        name = {"twin": "twin", "direct": "direct"}.get(self.phase, "model")
        return {name: list(network.parameters())}

    def losses(self, generator: torch.Generator) -> dict[str, Float[Tensor, ""]]:
        """Take the next batch and return the losses of the phase on it."""
        batch = self._next(generator)
        device = self._like.device
        with multiply_in(resolve_precision(self.precision, device), device):
            if self.phase == "twin":
                return {"twin": self._cross_entropy(self.twin.train()(batch.images), batch.targets)}
            if self.phase == "inverse":
                return self._inverse(batch.images)
            return {next(iter(self.objectives())): self._trial(batch)}

    def update(self, step: Step) -> dict[str, Tensor | float]:
        """Learn from one batch; now and then look at the held-out pictures."""
        if self.phase == "annealing":
            self.slope = annealed(step.phase_done, step.phase_updates)
        self._parts = {}
        scalars = super().update(step)
        last = step.phase_done + 1 == step.phase_updates
        if last or (step.phase_done + 1) % self.evaluate_every == 0:
            name = {"twin": "twin_accuracy", "direct": "direct_accuracy"}.get(self.phase)
            accuracy = self.accuracy()
            self._seen["held_out_accuracy"] = accuracy
            self._seen[name or "model_accuracy"] = accuracy
            if last and self.phase in ("annealing", "finetune", ""):
                self._seen |= self._return_to_baseline()
        return {**scalars, **self._parts, "slope": self.slope, **self._seen}

    @torch.no_grad()
    def accuracy(self) -> float:
        """Return the share of held-out pictures that the network of this phase names right."""
        place, network = world(), self._network()
        weights = network.folded().detached() if isinstance(network, CordsNet) else None
        like = self._like
        right = torch.zeros(2, dtype=torch.float64, device=like.device)
        for images, targets in self.data.held_out(self.batch_size, (place.rank, place.size)):
            shown = images.to(like)
            if weights is None:
                logits = network.eval()(shown)
            else:
                logits = trial_answers(weights, shown, self.trial, self.slope)
            right[0] += (logits.argmax(1) == targets.to(like.device)).sum()
            right[1] += len(targets)
        counted, shown_count = place.sum(right).tolist()
        return counted / shown_count

    def extra_state(self) -> dict[str, Any]:
        """Return how far the batches have come, and what was last seen of held-out pictures."""
        return {"seed": self._seed, "drawn": self._drawn, "seen": dict(self._seen)}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Go on where the batches were."""
        self._seed, self._drawn = int(state["seed"]), int(state["drawn"])
        self._seen, self._batches = dict(state["seen"]), None

    @property
    def _rows(self) -> int:
        """Rows of a batch of the current phase, over all processes."""
        trials = self.phase not in ("twin", "inverse") and self.trial_batch_size
        return self.trial_batch_size if trials else self.batch_size

    @property
    def _like(self) -> Tensor:
        """A tensor of the type and on the device of the networks."""
        return self.model.areas[0].bias

    def _network(self) -> CordsNet | CordsNetTwin:
        """Return the network of the current phase."""
        if self.phase == "direct":
            assert self.direct is not None  # enter() refuses the phase otherwise
            return self.direct
        return self.twin if self.phase == "twin" else self.model

    def _next(self, generator: torch.Generator) -> LabeledBatch:
        """Return this process's part of the next batch, where the network is."""
        if self._seed < 0:
            self._seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        if self._batches is None:
            place = world()
            self._batches = self.data.stream(
                self._drawn, batch_size=self._rows, seed=self._seed, part=(place.rank, place.size)
            )
        images, targets = next(self._batches)
        self._drawn += 1
        like = self._like
        targets = targets.to(like) if targets.is_floating_point() else targets.to(like.device)
        return LabeledBatch(images.to(like), targets)

    def _inverse(self, images: Float[Tensor, "B c H W"]) -> dict[str, Float[Tensor, ""]]:
        """Return the loss of every area, and note how far each is from its target."""
        if self._folded is None:
            self._folded = self.twin.folded()
        with torch.no_grad():
            responses = self._folded.responses(images)
        losses = {}
        parts = zip(self.model.areas, responses.fed, responses.drive, strict=True)
        for k, (area, fed, target) in enumerate(parts, start=1):
            found = inverse_loss(area.folded(), fed, target, self.inverse_terms)
            losses[f"area{k}"] = found.total(self.remainder_weight)
            self._parts[f"inverse_error/area{k}"] = (found.error / found.power).detach()
        return losses

    def _trial(self, batch: LabeledBatch) -> Float[Tensor, ""]:
        """Return the loss of one trial, and note both of its parts."""
        network = self._network()
        assert isinstance(network, CordsNet)
        trial = self.trial._replace(off=0) if self.phase == "linear" else self.trial
        found = trial_loss(
            network.folded(), batch.images, batch.targets, trial, self.slope, self.label_smoothing
        )
        self._parts = {"answer": found.answer.detach(), "distance": found.distance.detach()}
        return found.total(trial.settle_weight)

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        return functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    @torch.no_grad()
    def _return_to_baseline(self) -> dict[str, float]:
        """Return the largest relative distance that is left after 200 ms, from both starts."""
        like = self._like
        images = next(self.data.held_out(RETURN_IMAGES)).images.to(like)
        generator = torch.Generator().manual_seed(0)
        steps = round(RETURN_MS / self.model.dt_ms)
        trial = self.trial._replace(warmup=max(steps, self.trial.warmup), off=steps)
        found = return_distances(
            self.model.folded().detached(), images, trial, generator, self.slope
        )
        return {"distance_after_offset": found[0].item(), "distance_random_start": found[1].item()}

    def _check(self) -> None:
        data, model = self.data, self.model
        asked = (model.classes, model.channels, model.size)
        if asked != (given := (data.classes, data.channels, tuple(data.size))):
            raise InputError(
                "CordsNetTask expected a network for the classes, channels and size of the data, "
                f"{given}, got {asked}. Set model.classes={given[0]}, model.channels={given[1]} "
                f"and model.image_size=[{given[2][0]}, {given[2][1]}]."
            )
        counts = {
            "batch_size": 1, "evaluate_every": 1, "readout_steps": 1, "inverse_terms": 1,
            "settle_steps": 0, "trial_batch_size": 0, "checkpoint_steps": 0,
        }  # fmt: skip
        for name, least in counts.items():
            if getattr(self, name) < least:
                raise InputError(
                    f"CordsNetTask expected {name} of at least {least}, got {getattr(self, name)}."
                )
        weights = (self.settle_weight, self.remainder_weight)
        if not (all(0 <= w < math.inf for w in weights) and 0 <= self.label_smoothing < 1):
            raise InputError(
                "CordsNetTask expected settle_weight and remainder_weight of at least 0 and "
                f"label_smoothing in [0, 1), got {weights} and {self.label_smoothing}."
            )
        if not self.stimulus_ms > 0:
            raise InputError(f"CordsNetTask expected stimulus_ms above 0, got {self.stimulus_ms}.")


def _another(model: CordsNet) -> CordsNet:
    """Return a network with the settings of another, but random weights of its own."""
    return CordsNet(
        depth=model.depth, classes=model.classes, channels=model.channels,
        image_size=model.image_size, dt_ms=model.dt_ms, tau_ms=model.tau_ms,
        learnable=model.learnable,
    )  # fmt: skip


def annealed(done: int, updates: int) -> float:
    """Return the slope for negative drive in an update of the annealing; 0 in its last part.

    >>> [annealed(done, 40) for done in (0, 1, 2, 39)]
    [0.95, 0.95, 0.9, 0.0]
    """
    level = LEVELS * done // max(updates, 1)
    return max(0.0, round(FIRST_SLOPE - SLOPE_STEP * level, 10))
