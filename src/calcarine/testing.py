"""The public conformance kit: does a stage keep its contract, can a model be probed?

    check_stage(stage, example)     the promises of calcarine.stage, one check each
    check_model(model, image)       what every probe needs of a model

Both return a :class:`Report` that says, check by check, what was found and what to change, and both
repair nothing silently. Use them on stages and models of your own:

    check_stage(MyNeuron(), torch.rand(3, 16)).raise_if_failed()

The tolerances are those of the house, see :data:`TOLERANCE`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from calcarine import recipe, registry
from calcarine.errors import InputError, UnknownNameError
from calcarine.simulate import run
from calcarine.stage import DynamicStage, FusedStage, state_tensors

__all__ = ["TOLERANCE", "Check", "Report", "check_model", "check_stage"]

TOLERANCE: Mapping[torch.dtype, tuple[float, float]] = {
    torch.float64: (1e-9, 1e-9),
    torch.float32: (1e-5, 1e-5),
    torch.bfloat16: (2e-2, 2e-2),
    torch.float16: (5e-3, 5e-3),
}
"""Relative and absolute tolerance by dtype: a few hundred roundings of a sum of order one."""

STEPS = 7


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Args:
        name: What was checked.
        passed: Whether it holds.
        detail: What was found, and what to change if it does not hold.
    """

    name: str
    passed: bool
    detail: str = ""

    def __str__(self) -> str:
        return f"{'ok    ' if self.passed else 'FAILED'}  {self.name}  {self.detail}".rstrip()


@dataclass(frozen=True)
class Report:
    """Outcome of all checks on one subject."""

    subject: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        return tuple(check for check in self.checks if not check.passed)

    def raise_if_failed(self) -> Report:
        """Raise an error that lists every failure, or return the report.

        Raises:
            InputError: If a check failed.
        """
        if not self.passed:
            listed = "\n".join(f"  {check.name}: {check.detail}" for check in self.failures)
            raise InputError(f"{self.subject} fails {len(self.failures)} check(s):\n{listed}")
        return self

    def __str__(self) -> str:
        return "\n".join([self.subject, *(f"  {check}" for check in self.checks)])


class _CheckError(Exception):
    """A check that does not hold; the message is its detail."""


def _judge(name: str, check: Callable[[], str | None]) -> Check:
    try:
        return Check(name, True, check() or "")
    except _CheckError as failure:
        return Check(name, False, str(failure))
    except Exception as error:  # a check must report whatever a stranger's stage raises
        return Check(name, False, f"raised {type(error).__name__}: {error}")


def check_stage(
    stage: nn.Module, example: Tensor, *, skip: Mapping[str, str] | Sequence[str] = ()
) -> Report:
    """Check every promise of the stage contract.

    Args:
        stage: A stage, with memory or without. It is copied, never changed.
        example: One input with axes (batch, ...), at least two batch items.
        skip: Names of checks that do not apply, for example ``{"gradient": "spikes are steps"}``.

    Returns:
        A report; ``.raise_if_failed()`` turns failures into an error.

    Raises:
        UnknownNameError: If ``skip`` names a check that does not exist.
        InputError: If the example has fewer than two batch items.
    """
    if example.ndim < 1 or example.shape[0] < 2:
        raise InputError(
            "check_stage expected an example with at least two batch items, got shape "
            f"{tuple(example.shape)}."
        )
    subject = copy.deepcopy(stage).eval()
    checks = _STAGE_CHECKS | (_DYNAMIC_CHECKS if isinstance(stage, DynamicStage) else {})
    for name in skip:
        if name not in checks:
            raise UnknownNameError("check", name, checks)
    done = [_judge(n, partial(c, subject, example)) for n, c in checks.items() if n not in skip]
    return Report(type(stage).__name__, tuple(done))


def _call(stage: nn.Module, x: Tensor) -> Tensor:
    """Return the output of one step (from rest, for a stage with memory)."""
    return stage(x, stage.initial_state(x))[0] if isinstance(stage, DynamicStage) else stage(x)


def _close(a: Tensor, b: Tensor, scale: float = 1.0) -> bool:
    rtol, atol = TOLERANCE.get(a.dtype, (0.0, 0.0))
    return a.shape == b.shape and torch.allclose(a, b, rtol=scale * rtol, atol=scale * atol)


def _batch_items_independent(stage: nn.Module, x: Tensor) -> str | None:
    together = _call(stage, x)
    if together.shape[:1] != x.shape[:1]:
        raise _CheckError(f"batch of {x.shape[0]} in, shape {tuple(together.shape)} out")
    apart = torch.cat([_call(stage, x[i : i + 1]) for i in range(x.shape[0])])
    if not _close(together, apart, 10):
        worst = (together - apart).abs().max().item()
        raise _CheckError(
            f"an item's output changes with its neighbours in the batch by {worst:.2g}"
        )
    return None


def _input_untouched(stage: nn.Module, x: Tensor) -> str | None:
    kept = x.clone()
    _call(stage, x)
    if not torch.equal(kept, x):
        raise _CheckError("forward wrote into its input; work on a copy")
    return None


def _deterministic(stage: nn.Module, x: Tensor) -> str | None:
    if not torch.equal(_call(stage, x), _call(stage, x)):
        raise _CheckError("two calls in eval() differ; noise belongs to train()")
    return None


def _dtype_followed(stage: nn.Module, x: Tensor) -> str | None:
    for dtype in (torch.float32, torch.float64):
        y = _call(copy.deepcopy(stage).to(dtype), x.to(dtype))
        if y.is_floating_point() and y.dtype != dtype:
            raise _CheckError(f"{dtype} in, {y.dtype} out; a constant has a fixed dtype")
    return None


def _device_followed(stage: nn.Module, x: Tensor) -> str | None:
    device = "cuda" if torch.cuda.is_available() else "meta"
    y = _call(copy.deepcopy(stage).to(device), x.to(device))
    if y.device.type != device:
        raise _CheckError(f"input on {device}, output on {y.device}; a constant has a fixed device")
    return f"tried {device}"


def _strides_ignored(stage: nn.Module, x: Tensor) -> str | None:
    strided = x.transpose(0, -1).contiguous().transpose(0, -1)
    if not _close(_call(stage, x), _call(stage, strided), 10):
        raise _CheckError("the output depends on the memory layout of the input")
    return None


def _gradient(stage: nn.Module, x: Tensor) -> str | None:
    """Compare the gradient along one direction with a central difference."""
    stage = copy.deepcopy(stage).double()
    generator = torch.Generator().manual_seed(0)
    x = x.double().detach().cpu().requires_grad_()
    direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    y = _call(stage, x)
    if not y.requires_grad:
        raise _CheckError("the output does not depend on the input differentiably")
    weight = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    (slope,) = torch.autograd.grad((y * weight).sum(), x)
    step = 1e-6
    with torch.no_grad():
        ahead = (_call(stage, x + step * direction) * weight).sum()
        behind = (_call(stage, x - step * direction) * weight).sum()
    expected = ((ahead - behind) / (2 * step)).item()
    found = (slope * direction).sum().item()
    if abs(found - expected) > 1e-5 * max(1.0, abs(expected)):
        raise _CheckError(
            f"gradient along a direction is {found:.8g}, differences say {expected:.8g}"
        )
    return None


def _compiles(stage: nn.Module, x: Tensor) -> str | None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: _call(stage, x), backend="aot_eager", fullgraph=True)
    if not _close(_call(stage, x), compiled(x), 10):
        raise _CheckError("the compiled stage gives other numbers")
    return None


def _recipe_round_trip(stage: nn.Module, x: Tensor) -> str | None:
    if registry.registered_name(type(stage)) is None:
        return "not registered, so recipes cannot name it"
    cls: Any = type(stage)
    model = recipe.schema(cls)
    missing = [n for n in model.model_fields if n != "type" and not hasattr(stage, n)]
    if missing:
        raise _CheckError(
            f"keep constructor arguments as attributes; missing: {', '.join(missing)}"
        )
    values = {n: getattr(stage, n) for n in model.model_fields if n != "type"}
    config = model.model_validate(values)
    again = model.model_validate_json(config.model_dump_json())
    rebuilt = recipe.build(again)
    rebuilt.load_state_dict(stage.state_dict())
    if config != again or not torch.equal(_call(stage, x), _call(rebuilt.eval().to(x.dtype), x)):
        raise _CheckError("a stage rebuilt from its recipe differs")
    return None


def _state_is_a_value(stage: Any, x: Tensor) -> str | None:
    state = stage.initial_state(x)
    if not (isinstance(state, tuple) and hasattr(state, "_fields")):
        raise _CheckError(f"initial_state returned {type(state).__name__}, expected a NamedTuple")
    kept = [t.clone() for t in state_tensors(state)]
    first, _ = stage(x, state)
    if not all(torch.equal(a, b) for a, b in zip(kept, state_tensors(state), strict=True)):
        raise _CheckError("forward wrote into the state it was given; return a new one")
    second, _ = stage(x, state)
    if not torch.equal(first, second):
        raise _CheckError("two calls with the same state differ; something is remembered on self")
    return None


def _movie(x: Tensor) -> Tensor:
    gains = torch.linspace(0.5, 1.5, STEPS, dtype=x.dtype, device=x.device)
    return gains.reshape(-1, *[1] * x.ndim) * x


def _stop_and_resume(stage: Any, x: Tensor) -> str | None:
    movie = _movie(x)
    whole, end = run(stage, movie, engine="plain")
    first, state = run(stage, movie[:3], engine="plain")
    rest, resumed = run(stage, movie[3:], state, engine="plain")
    same_state = zip(state_tensors(end), state_tensors(resumed), strict=True)
    if not torch.equal(whole, torch.cat([first, rest])) or not all(
        torch.equal(a, b) for a, b in same_state
    ):
        raise _CheckError(
            "stopping and going on with the returned state differs from running through"
        )
    return None


def _scan_agrees(stage: Any, x: Tensor) -> str | None:
    if not isinstance(stage, FusedStage):
        return "defines no scan"
    plain, end = run(stage, _movie(x), engine="plain")
    fused, fused_end = run(stage, _movie(x), engine="scan")
    pairs = zip([plain, *state_tensors(end)], [fused, *state_tensors(fused_end)], strict=True)
    if not all(_close(a, b) for a, b in pairs):
        raise _CheckError("the fused scan gives other numbers than plain steps")
    return None


_STAGE_CHECKS: dict[str, Callable[[nn.Module, Tensor], str | None]] = {
    "batch_items_independent": _batch_items_independent,
    "input_untouched": _input_untouched,
    "deterministic": _deterministic,
    "dtype_followed": _dtype_followed,
    "device_followed": _device_followed,
    "strides_ignored": _strides_ignored,
    "gradient": _gradient,
    "compiles": _compiles,
    "recipe_round_trip": _recipe_round_trip,
}

_DYNAMIC_CHECKS: dict[str, Callable[[nn.Module, Tensor], str | None]] = {
    "state_is_a_value": _state_is_a_value,
    "stop_and_resume": _stop_and_resume,
    "scan_agrees": _scan_agrees,
}


def check_model(model: Callable[[Tensor], Tensor], image: Tensor) -> Report:
    """Say, check by check, whether a model can be probed.

    A probe takes any differentiable ``image -> representation`` with a 4-D image in and a 3-D or
    4-D representation out.

    Args:
        model: The model, a module or any callable.
        image: An image with axes (batch, channel, height, width) that the model is made for.
    """
    checks = [_judge(name, partial(c, model, image)) for name, c in _MODEL_CHECKS.items()]
    return Report(getattr(model, "__name__", type(model).__name__), tuple(checks))


def _image_is_fit(model: Any, image: Tensor) -> str | None:
    if image.ndim != 4:
        raise _CheckError(
            "expected an image with axes (batch, channel, height, width), got shape "
            f"{tuple(image.shape)}; for one grey image pass image[None, None]"
        )
    if not image.is_floating_point():
        raise _CheckError(
            f"expected floating point values, got {image.dtype}; pass image.float() / 255"
        )
    if not torch.isfinite(image).all():
        raise _CheckError("the image holds NaN or infinity")
    return None


def _evaluation_mode(model: Any, image: Tensor) -> str | None:
    if isinstance(model, nn.Module) and any(m.training for m in model.modules()):
        raise _CheckError("the model is in training mode; call model.eval()")
    return None


def _parameters_frozen(model: Any, image: Tensor) -> str | None:
    if isinstance(model, nn.Module):
        free = [n for n, p in model.named_parameters() if p.requires_grad]
        if free:
            raise _CheckError(
                f"{len(free)} parameters collect gradients ({free[0]}, ...); call "
                "model.requires_grad_(False)"
            )
    return None


def _same_device(model: Any, image: Tensor) -> str | None:
    if isinstance(model, nn.Module):
        held = [*model.parameters(), *model.buffers()]
        other = {str(t.device) for t in held if t.device != image.device}
        if other:
            raise _CheckError(
                f"the model is on {', '.join(sorted(other))}, the image on {image.device}; "
                f"call model.to({str(image.device)!r}) or move the image"
            )
    return None


def _representation(model: Any, image: Tensor) -> Tensor:
    response = model(image)
    if not isinstance(response, Tensor):
        raise _CheckError(
            f"expected a tensor out, got {type(response).__name__}; return one tensor"
        )
    return response


def _output_fits(model: Any, image: Tensor) -> str | None:
    with torch.no_grad():
        response = _representation(model, image)
    if response.ndim not in (3, 4):
        raise _CheckError(
            f"expected a 3-D or 4-D representation, got shape {tuple(response.shape)}; keep the "
            "batch axis and add a channel axis"
        )
    if not response.is_floating_point():
        raise _CheckError(f"expected floating point values out, got {response.dtype}")
    if response.dtype != image.dtype or response.device != image.device:
        raise _CheckError(
            f"{image.dtype} on {image.device} in, {response.dtype} on {response.device} out; let "
            "constants follow the input"
        )
    if not torch.isfinite(response).all():
        raise _CheckError("the representation holds NaN or infinity")
    return f"shape {tuple(response.shape)}"


def _repeatable(model: Any, image: Tensor) -> str | None:
    with torch.no_grad():
        if not torch.equal(_representation(model, image), _representation(model, image)):
            raise _CheckError("two calls on the same image differ; remove the randomness")
    return None


def _differentiable(model: Any, image: Tensor) -> str | None:
    x = image.detach().clone().requires_grad_()
    response = _representation(model, x)
    if not response.requires_grad:
        raise _CheckError("no gradient reaches the image; use differentiable torch operations only")
    (gradient,) = torch.autograd.grad(response.sum(), x, allow_unused=True)
    if gradient is None or not torch.isfinite(gradient).all():
        raise _CheckError("the gradient with respect to the image is missing or not finite")
    return None


_MODEL_CHECKS: dict[str, Callable[[Any, Tensor], str | None]] = {
    "image": _image_is_fit,
    "evaluation_mode": _evaluation_mode,
    "parameters_frozen": _parameters_frozen,
    "same_device": _same_device,
    "output": _output_fits,
    "repeatable": _repeatable,
    "differentiable": _differentiable,
}
