"""Any inner activity of a model as an ``image -> representation`` that every probe can take.

    without memory    representation = what the named layer puts out while the model sees the image
    with memory       representation = what the named stage puts out at the last of
                      time_ms / dt_ms steps of a movie that shows nothing but the image

Two axes (B, N) become (B, 1, N), five or more (B, C, ...) become (B, C, N), so that a probe always
finds a batch, channels and positions.

Axes    T time | B batch | C channel | H W rows down, columns right | N entries
Source  feather2019 (probing layer by layer)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Shaped
from torch import Tensor, nn

from calcarine.errors import InputError, RunError, UnknownNameError
from calcarine.probes._memory import has_memory, step_ms
from calcarine.simulate import Engine, run
from calcarine.stage import DynamicStage, Pathway, steps_of

__all__ = ["Readout", "readout"]


class Readout(nn.Module):
    """A model seen through one of its layers; made by :func:`readout`.

    Args:
        model: The model; neither copied nor changed.
        layer: Dotted name of the layer, or of a field of a stage's state; empty for the model.
        steps: How many steps the image is shown; ``None`` for a model without memory.
        engine: How to run the steps before the last one, see :func:`calcarine.simulate.run`.
    """

    def __init__(
        self, model: nn.Module, layer: str, steps: int | None = None, engine: Engine = "plain"
    ) -> None:
        super().__init__()
        self.model, self.layer, self.steps, self.engine = model, layer, steps, engine
        self.training = model.training
        self._module, self._field = _find(model, layer)

    def forward(self, image: Shaped[Tensor, "B C H W"]) -> Shaped[Tensor, "B C *N"]:
        """Return the activity of the layer.

        Raises:
            RunError: If the layer took no part, or put out something other than a tensor.
        """
        with _tap(self._inner(), self._field) as seen:
            self._show(image)
        if not seen:
            raise RunError(f"{self.layer!r} is part of the model but took no part in its answer.")
        # A layer that runs several times within one answer (or step) is read the last time.
        return _with_channels(seen[-1], self.layer)

    def _inner(self) -> nn.Module:
        # Looked up at every call: a layer may be exchanged, and a copy has layers of its own.
        return self.model.get_submodule(self._module)

    def _show(self, image: Tensor) -> None:
        if self.steps is None:
            self.model(image)
            return
        # run records values cut off from the graph, so the last step is done by hand, with the tap
        # on; the state carries the gradient of all steps before.
        assert isinstance(self.model, DynamicStage)
        state = self.model.initial_state(image)
        if self.steps > 1:
            movie = image.expand(self.steps - 1, *image.shape)
            _, state = run(self.model, movie, state, engine=self.engine)
        self.model(image, state)

    def extra_repr(self) -> str:
        """Show what is read when."""
        return f"layer={self.layer!r}, steps={self.steps}"


def readout(
    model: nn.Module,
    layer: str,
    time_ms: float | None = None,
    dt_ms: float | None = None,
    *,
    engine: Engine = "plain",
) -> Readout:
    """Make a model of an inner activity, for any probe.

    The readout takes over whether the model trains or evaluates and whether its parameters collect
    gradients; freeze the model first (``model.eval().requires_grad_(False)``), as for any probe.

    Args:
        model: The model. One with memory (a ``DynamicStage`` or a ``Pathway`` of them) is shown a
            constant movie, starting at rest.
        layer: Dotted name of an inner module (``"v1.excitatory"``), of a field of its state
            (``"v1.excitatory.v"``), or ``""`` for the whole model.
        time_ms: How long a model with memory sees the image, a multiple of its step.
        dt_ms: Step of the model; needed only if none of its stages has an attribute ``dt_ms``.
        engine: How to run the steps before the last one, see :func:`calcarine.simulate.run`.
            ``"plain"`` supports every kind of differentiation; ``"auto"`` is faster.

    Raises:
        UnknownNameError: If ``layer`` leads nowhere; the message lists what there is.
        InputError: If a model with memory gets no ``time_ms``, one without memory gets some, the
            step is not known, or the time is not a multiple of it.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"readout expected a module with named layers, got a {type(model).__name__}. A plain "
            "function can be probed as it is."
        )
    if not has_memory(model):
        if time_ms is not None or dt_ms is not None:
            raise InputError(
                f"{type(model).__name__} has no memory, so time means nothing to it. Leave out "
                "time_ms and dt_ms."
            )
        return Readout(model, layer)
    if time_ms is None:
        raise InputError(
            f"{type(model).__name__} has memory: say when to read it. For example time_ms=80."
        )
    one_ms = step_ms("readout", model, dt_ms)
    steps = steps_of("readout", "time_ms", time_ms, one_ms, least=1)
    return Readout(model, layer, steps, engine)


def _find(model: nn.Module, layer: str) -> tuple[str, str]:
    """Split a name into the path of a module and a field of its state (often empty)."""
    modules = dict(model.named_modules(remove_duplicate=False))
    path, field = (layer, "") if layer in modules else layer.rpartition(".")[::2]
    inner = modules.get(path)
    # The state of a pathway only holds those of its stages, which have names of their own.
    stateful = isinstance(inner, DynamicStage) and not isinstance(inner, Pathway)
    if inner is None or (field and not stateful):
        raise UnknownNameError("layer to read", layer, [name for name in modules if name])
    return path, field


@contextmanager
def _tap(module: nn.Module, field: str) -> Iterator[list[Tensor]]:
    """Collect what a module puts out; the tap is gone afterwards, whatever happens."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        # Only the last value counts; older ones are dropped so that no memory is held.
        seen[:] = [_field_of(output[1], field) if field else _first(output)]

    handle = module.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) and output else output


def _field_of(state: Any, field: str) -> Tensor:
    if field not in state._fields:
        raise UnknownNameError("variable of the state to read", field, state._fields)
    return getattr(state, field)


def _with_channels(value: Any, layer: str) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim == 0:
        raise RunError(
            f"{layer!r} put out {'a number' if isinstance(value, Tensor) else type(value).__name__}"
            ", expected a tensor with the batch first. Read one of the layers inside it."
        )
    if value.ndim <= 2:
        return value.reshape(value.shape[0], 1, -1)
    return value if value.ndim <= 4 else value.flatten(2)
