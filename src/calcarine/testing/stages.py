"""Every promise of the stage contract as a check of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from calcarine import recipe, registry
from calcarine.errors import InputError, UnknownNameError
from calcarine.simulate import run
from calcarine.stage import DynamicStage, FusedStage, state_tensors
from calcarine.testing.outcome import CheckError, Report, judge

__all__ = ["TOLERANCE", "check_stage"]

TOLERANCE: Mapping[torch.dtype, tuple[float, float]] = {
    torch.float64: (1e-9, 1e-9),
    torch.float32: (1e-5, 1e-5),
    torch.bfloat16: (2e-2, 2e-2),
    torch.float16: (5e-3, 5e-3),
}
"""Relative and absolute tolerance by dtype: a few hundred roundings of a sum of order one."""

STEPS = 7


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
    done = [judge(n, partial(c, subject, example)) for n, c in checks.items() if n not in skip]
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
        raise CheckError(f"batch of {x.shape[0]} in, shape {tuple(together.shape)} out")
    apart = torch.cat([_call(stage, x[i : i + 1]) for i in range(x.shape[0])])
    if not _close(together, apart, 10):
        worst = (together - apart).abs().max().item()
        raise CheckError(
            f"an item's output changes with its neighbours in the batch by {worst:.2g}"
        )
    return None


def _input_untouched(stage: nn.Module, x: Tensor) -> str | None:
    kept = x.clone()
    _call(stage, x)
    if not torch.equal(kept, x):
        raise CheckError("forward wrote into its input; work on a copy")
    return None


def _deterministic(stage: nn.Module, x: Tensor) -> str | None:
    if not torch.equal(_call(stage, x), _call(stage, x)):
        raise CheckError("two calls in eval() differ; noise belongs to train()")
    return None


def _dtype_followed(stage: nn.Module, x: Tensor) -> str | None:
    for dtype in (torch.float32, torch.float64):
        y = _call(copy.deepcopy(stage).to(dtype), x.to(dtype))
        if y.is_floating_point() and y.dtype != dtype:
            raise CheckError(f"{dtype} in, {y.dtype} out; a constant has a fixed dtype")
    return None


def _device_followed(stage: nn.Module, x: Tensor) -> str | None:
    device = "cuda" if torch.cuda.is_available() else "meta"
    y = _call(copy.deepcopy(stage).to(device), x.to(device))
    if y.device.type != device:
        raise CheckError(f"input on {device}, output on {y.device}; a constant has a fixed device")
    return f"tried {device}"


def _strides_ignored(stage: nn.Module, x: Tensor) -> str | None:
    strided = x.transpose(0, -1).contiguous().transpose(0, -1)
    if not _close(_call(stage, x), _call(stage, strided), 10):
        raise CheckError("the output depends on the memory layout of the input")
    return None


def _gradient(stage: nn.Module, x: Tensor) -> str | None:
    """Compare the gradient along one direction with a central difference."""
    stage = copy.deepcopy(stage).double()
    generator = torch.Generator().manual_seed(0)
    x = x.double().detach().cpu().requires_grad_()
    direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    y = _call(stage, x)
    if not y.requires_grad:
        raise CheckError("the output does not depend on the input differentiably")
    weight = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    (slope,) = torch.autograd.grad((y * weight).sum(), x)
    step = 1e-6
    with torch.no_grad():
        ahead = (_call(stage, x + step * direction) * weight).sum()
        behind = (_call(stage, x - step * direction) * weight).sum()
    expected = ((ahead - behind) / (2 * step)).item()
    found = (slope * direction).sum().item()
    if abs(found - expected) > 1e-5 * max(1.0, abs(expected)):
        raise CheckError(
            f"gradient along a direction is {found:.8g}, differences say {expected:.8g}"
        )
    return None


def _compiles(stage: nn.Module, x: Tensor) -> str | None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: _call(stage, x), backend="aot_eager", fullgraph=True)
    if not _close(_call(stage, x), compiled(x), 10):
        raise CheckError("the compiled stage gives other numbers")
    return None


def _recipe_round_trip(stage: nn.Module, x: Tensor) -> str | None:
    if registry.registered_name(type(stage)) is None:
        return "not registered, so recipes cannot name it"
    cls: Any = type(stage)
    model = recipe.schema(cls)
    missing = [n for n in model.model_fields if n != "type" and not hasattr(stage, n)]
    if missing:
        raise CheckError(f"keep constructor arguments as attributes; missing: {', '.join(missing)}")
    values = {n: getattr(stage, n) for n in model.model_fields if n != "type"}
    config = model.model_validate(values)
    again = model.model_validate_json(config.model_dump_json())
    rebuilt = recipe.build(again)
    rebuilt.load_state_dict(stage.state_dict())
    if config != again or not torch.equal(_call(stage, x), _call(rebuilt.eval().to(x.dtype), x)):
        raise CheckError("a stage rebuilt from its recipe differs")
    return None


def _state_is_a_value(stage: Any, x: Tensor) -> str | None:
    state = stage.initial_state(x)
    if not (isinstance(state, tuple) and hasattr(state, "_fields")):
        raise CheckError(f"initial_state returned {type(state).__name__}, expected a NamedTuple")
    kept = [t.clone() for t in state_tensors(state)]
    first, _ = stage(x, state)
    if not all(torch.equal(a, b) for a, b in zip(kept, state_tensors(state), strict=True)):
        raise CheckError("forward wrote into the state it was given; return a new one")
    second, _ = stage(x, state)
    if not torch.equal(first, second):
        raise CheckError("two calls with the same state differ; something is remembered on self")
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
        raise CheckError(
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
        raise CheckError("the fused scan gives other numbers than plain steps")
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
