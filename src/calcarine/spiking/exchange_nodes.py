"""One stage as a node of NIR, and back.

    LIFBox                NIR LIF        R = 1
    LeakyIntegratorBox    NIR LI         R = 1
    IAF                   NIR IF         R = 1 / tau_mem
    LIF                   NIR CubaLIF    R = 1, w_in = tau_syn / dt
    LeakyIntegrator       NIR CubaLI     R = 1, w_in = tau_syn / dt
    Linear, Conv2d, Flatten, Scale, Threshold    the nodes of (nearly) the same names

NIR's equations are continuous: tau dv/dt = (v_leak - v) + R I, and tau_syn dI/dt = -I + w_in S. Our
step is explicit Euler of dt on them, with the input held over the step. There an input S raises the
current by w_in S dt / tau_syn, which is S itself in our neurons; hence w_in above. What NIR has no
slot for, the step and the way to reset, lies in the node's metadata under ``dt`` (s), ``reset``,
``surrogate`` and ``alpha``.

Axes    of the values of a node: those of a frame without its batch
Units   times in s in NIR, in ms here
Source  pedersen2024
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calcarine.constants import Constant
from calcarine.errors import InputError
from calcarine.spiking.elementwise import Scale, Threshold
from calcarine.spiking.iaf import IAF
from calcarine.spiking.leaky_integrator import LeakyIntegrator, LeakyIntegratorBox
from calcarine.spiking.lif import LIF
from calcarine.spiking.lif_box import LIFBox

__all__ = ["node_of", "stages_of", "step_ms"]

NEURONS = (LIFBox, LIF, LeakyIntegratorBox, LeakyIntegrator, IAF)

Shape = tuple[int, ...]


def node_of(nir: ModuleType, name: str, stage: nn.Module, shape: Shape) -> Any:
    """Return the node of NIR that means the same as a stage.

    Args:
        nir: The package.
        name: Of the stage, for messages.
        stage: The stage.
        shape: Of its input, without the batch.

    Raises:
        InputError: If NIR cannot express the stage.
    """
    for kinds, write in _WRITERS:
        if isinstance(stage, kinds):
            return write(nir, name, stage, shape)
    known = ", ".join(kind.__name__ for kinds, _ in _WRITERS for kind in kinds)
    raise InputError(
        f"NIR cannot express {name!r}, a {type(stage).__name__}. It can express {known} and "
        "Recurrent around a neuron. Leave the part out, or replace it."
    )


def stages_of(
    nir: ModuleType, name: str, node: Any, dt_ms: float, dtype: torch.dtype
) -> dict[str, nn.Module]:
    """Return the stages that mean the same as a node: a neuron may need a Scale in front.

    Args:
        nir: The package.
        name: Of the node, which names the stage.
        node: The node.
        dt_ms: Duration of one step, ms.
        dtype: Of weights.

    Raises:
        InputError: If we have nothing that means the same, or a value of the node is impossible.
    """
    read = _READERS.get(type(node).__name__)
    if read is None:
        raise InputError(
            f"calcarine has no stage for the node {name!r} of type {type(node).__name__}. It reads "
            f"{', '.join(_READERS)} and loops of one connection around a neuron."
        )
    try:
        made = read(node, dt_ms, dtype)
    except (InputError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"The node {name!r} cannot become a stage: {error}") from error
    if isinstance(made, nn.Module):
        return {name: made}
    gain, neuron = made
    return {name: neuron} if gain is None else {f"{name}_gain": gain, name: neuron}


def step_ms(metadata: Any) -> float | None:
    """Return the duration of a step that a node's metadata names, ms, or ``None``."""
    if not isinstance(metadata, dict) or "dt" not in metadata:
        return None
    dt = _times_ms(metadata["dt"])
    if dt.size != 1 or not 0 < dt.item() < np.inf:
        raise InputError(f"A node names dt = {metadata['dt']!r}, expected one duration in s.")
    return dt.item()


# Writing.


def _write_neuron(nir: ModuleType, name: str, stage: Any, shape: Shape) -> Any:
    like = torch.zeros((1, *shape), dtype=torch.float64)

    def values(constant: Constant) -> np.ndarray:
        return _filled(constant(like), shape)

    metadata: dict[str, Any] = {"dt": stage.dt_ms / 1000.0}
    fires: dict[str, Any] = {}
    if isinstance(stage, (LIFBox, LIF, IAF)):
        if not stage.refractory.none(like):
            raise InputError(
                f"NIR cannot express refractory_ms={stage.refractory_ms} of {name!r}. Set it to 0 "
                "for the exchange."
            )
        fires = {
            "v_threshold": values(stage.v_threshold),
            "v_reset": values(stage.v_after_spike),
        }
        metadata |= {"reset": stage.reset, "surrogate": stage.surrogate, "alpha": stage.alpha}
    tau = values(stage.tau_mem)
    if isinstance(stage, IAF):
        return nir.IF(r=1000.0 / tau, **fires, metadata=metadata)
    leaks = {"r": np.ones(shape), "v_leak": values(stage.v_resting)}
    if isinstance(stage, (LIFBox, LeakyIntegratorBox)):
        node = nir.LIF if fires else nir.LI
        return node(tau=tau / 1000.0, **leaks, **fires, metadata=metadata)
    tau_syn = values(stage.tau_syn)
    return (nir.CubaLIF if fires else nir.CubaLI)(
        tau_mem=tau / 1000.0, tau_syn=tau_syn / 1000.0, w_in=tau_syn / stage.dt_ms,
        **leaks, **fires, metadata=metadata,
    )  # fmt: skip


def _write_linear(nir: ModuleType, name: str, stage: nn.Linear, shape: Shape) -> Any:
    if len(shape) != 1:
        raise InputError(
            f"NIR cannot express {name!r}: its linear maps take vectors, and this one gets frames "
            f"of shape {shape}. Put nn.Flatten() in front."
        )
    if stage.bias is None:
        return nir.Linear(weight=_array(stage.weight))
    return nir.Affine(weight=_array(stage.weight), bias=_array(stage.bias))


def _write_conv(nir: ModuleType, name: str, stage: nn.Conv2d, shape: Shape) -> Any:
    if stage.padding_mode != "zeros":
        raise InputError(
            f"NIR cannot express padding_mode={stage.padding_mode!r} of {name!r}, only 'zeros'."
        )
    # The reference implementation, which every file passes, derives the channels of the input from
    # the weight, and both sides of the output from the height of the kernel.
    if stage.groups != 1:
        raise InputError(f"NIR cannot express groups={stage.groups} of {name!r}, only 1.")
    if stage.padding != "same" and len(set(stage.kernel_size)) > 1:
        raise InputError(
            f"NIR cannot express kernel_size={stage.kernel_size} of {name!r}. Pad the weight with "
            "zeros to a square, or use padding='same'."
        )
    bias = torch.zeros(stage.out_channels) if stage.bias is None else stage.bias
    return nir.Conv2d(
        input_shape=shape[1:], weight=_array(stage.weight), stride=stage.stride,
        padding=stage.padding, dilation=stage.dilation, groups=1, bias=_array(bias),
    )  # fmt: skip


def _write_flatten(nir: ModuleType, name: str, stage: nn.Flatten, shape: Shape) -> Any:
    axes = len(shape) + 1
    start, end = stage.start_dim % axes, stage.end_dim % axes
    if start < 1:
        raise InputError(f"NIR cannot express start_dim=0 of {name!r}: it knows no batch axis.")
    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=start - 1, end_dim=end - 1)


def _write_scale(nir: ModuleType, name: str, stage: Scale, shape: Shape) -> Any:
    like = torch.zeros((1, *shape), dtype=torch.float64)
    return nir.Scale(scale=_filled(stage.constant(like), shape))


def _write_threshold(nir: ModuleType, name: str, stage: Threshold, shape: Shape) -> Any:
    like = torch.zeros((1, *shape), dtype=torch.float64)
    metadata = {"surrogate": stage.surrogate, "alpha": stage.alpha}
    return nir.Threshold(threshold=_filled(stage.constant(like), shape), metadata=metadata)


_WRITERS: list[tuple[tuple[type, ...], Callable[..., Any]]] = [
    (NEURONS, _write_neuron),
    ((nn.Linear,), _write_linear),
    ((nn.Conv2d,), _write_conv),
    ((nn.Flatten,), _write_flatten),
    ((Scale,), _write_scale),
    ((Threshold,), _write_threshold),
]


def _filled(value: Tensor | float, shape: Shape) -> np.ndarray:
    given = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else value
    return np.broadcast_to(given, shape).astype(np.float64)


def _array(values: Tensor) -> np.ndarray:
    values = values.detach().cpu()
    return (values if values.dtype == torch.float64 else values.float()).numpy()


# Reading.


def _read_lif(node: Any, dt_ms: float, dtype: torch.dtype) -> Any:
    neuron = LIFBox(
        tau_mem_ms=_value(_times_ms(node.tau)), v_leak=_value(node.v_leak),
        v_th=_value(node.v_threshold), dt_ms=dt_ms, **_resetting(node),
    )  # fmt: skip
    return _gain(node.r), neuron


def _read_li(node: Any, dt_ms: float, dtype: torch.dtype) -> Any:
    tau, leak = _value(_times_ms(node.tau)), _value(node.v_leak)
    return _gain(node.r), LeakyIntegratorBox(tau_mem_ms=tau, v_leak=leak, dt_ms=dt_ms)


def _read_if(node: Any, dt_ms: float, dtype: torch.dtype) -> Any:
    r = _finite("r", node.r)
    if not (r > 0).all():
        raise InputError("expected a positive r of an IF node.")
    tau = _rounded(1000.0 / r)
    # A membrane that charges faster than one step allows is one that adds r dt of its input.
    fast = tau < dt_ms
    gain = np.where(fast, r * dt_ms / 1000.0, 1.0)
    neuron = IAF(
        tau_mem_ms=_value(np.where(fast, dt_ms, tau)), v_th=_value(node.v_threshold),
        dt_ms=dt_ms, **_resetting(node),
    )  # fmt: skip
    return _gain(gain), neuron


def _read_cuba(node: Any, dt_ms: float, dtype: torch.dtype) -> Any:
    tau_syn = _times_ms(node.tau_syn)
    settings: dict[str, Any] = {
        "tau_mem_ms": _value(_times_ms(node.tau_mem)), "tau_syn_ms": _value(tau_syn),
        "v_leak": _value(node.v_leak), "dt_ms": dt_ms,
    }  # fmt: skip
    gain = _gain(np.asarray(node.r) * np.asarray(node.w_in) * dt_ms / tau_syn)
    if type(node).__name__ == "CubaLI":
        return gain, LeakyIntegrator(**settings)
    return gain, LIF(**settings, v_th=_value(node.v_threshold), **_resetting(node))


def _read_linear(node: Any, dt_ms: float, dtype: torch.dtype) -> Any:
    weight = torch.as_tensor(_finite("weight", node.weight)).to(dtype)
    if weight.ndim != 2:
        raise InputError(f"expected a weight with axes (out, in), got shape {tuple(weight.shape)}.")
    affine = type(node).__name__ == "Affine"
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=affine, device="meta")
    layer.weight = nn.Parameter(weight)
    if affine:
        layer.bias = nn.Parameter(_bias(node, weight))
    return layer


def _read_conv(node: Any, dt_ms: float, dtype: torch.dtype) -> Any:
    weight = torch.as_tensor(_finite("weight", node.weight)).to(dtype)
    if weight.ndim != 4 or np.asarray(node.groups).item() != 1:
        raise InputError(
            "expected a weight with axes (out, in, height, width) and one group, got shape "
            f"{tuple(weight.shape)} and {node.groups} groups."
        )
    padding = node.padding if isinstance(node.padding, str) else _two("padding", node.padding)
    layer = nn.Conv2d(
        weight.shape[1], weight.shape[0], _two("kernel", weight.shape[2:]), device="meta",
        padding=padding,
        stride=_two("stride", node.stride), dilation=_two("dilation", node.dilation),
    )  # fmt: skip
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(_bias(node, weight))
    return layer


def _read_flatten(node: Any, dt_ms: float, dtype: torch.dtype) -> Any:
    start, end = int(node.start_dim), int(node.end_dim)
    return nn.Flatten(start + (start >= 0), end + (end >= 0))


def _read_scale(node: Any, dt_ms: float, dtype: torch.dtype) -> Any:
    return Scale(factor=_value(node.scale))


def _read_threshold(node: Any, dt_ms: float, dtype: torch.dtype) -> Any:
    return Threshold(threshold=_value(node.threshold), **_slope(node))


_READERS: dict[str, Callable[..., Any]] = {
    "Affine": _read_linear,
    "Conv2d": _read_conv,
    "CubaLI": _read_cuba,
    "CubaLIF": _read_cuba,
    "Flatten": _read_flatten,
    "IF": _read_if,
    "LI": _read_li,
    "LIF": _read_lif,
    "Linear": _read_linear,
    "Scale": _read_scale,
    "Threshold": _read_threshold,
}


def _finite(name: str, values: Any) -> np.ndarray:
    given = np.asarray(values)
    if given.dtype.kind not in "fiu" or not np.isfinite(given).all():
        raise InputError(f"expected finite numbers for {name}.")
    return given


def _value(values: Any) -> Any:
    """Return what a constructor takes: one number, one per channel, or one per unit."""
    given = _finite("the constants of the node", values).astype(np.float64)
    while given.ndim and given.shape[-1] and (given == given[..., :1]).all():
        given = given[..., 0]
    return given.tolist()


def _times_ms(seconds: Any) -> np.ndarray:
    return _rounded(_finite("time constants", seconds) * 1000.0)


def _rounded(values: Any) -> np.ndarray:
    """Undo the rounding of ms to s and back, which would tell 4.1 ms from 4.1000000000000005."""
    given = np.asarray(values, dtype=np.float64)
    return np.array([float(f"{v:.14g}") for v in given.flat]).reshape(given.shape)


def _gain(factor: Any) -> Scale | None:
    given = _rounded(_finite("r and w_in", factor))
    return None if (given == 1.0).all() else Scale(factor=_value(given))


def _slope(node: Any) -> dict[str, Any]:
    """Return the surrogate's settings that the metadata hold."""
    held = node.metadata if isinstance(node.metadata, dict) else {}
    found: dict[str, Any] = {}
    if "surrogate" in held:
        found["surrogate"] = str(held["surrogate"])
    if "alpha" in held:
        found["alpha"] = float(_finite("alpha", held["alpha"]))
    return found


def _resetting(node: Any) -> dict[str, Any]:
    held = node.metadata if isinstance(node.metadata, dict) else {}
    reset = str(held.get("reset", "value"))
    # IAF starts at v_reset whatever its reset; the others would warn of a setting without effect.
    keeps = reset == "value" or type(node).__name__ == "IF"
    return {"reset": reset, **_slope(node)} | ({"v_reset": _value(node.v_reset)} if keeps else {})


def _two(name: str, values: Any) -> tuple[int, int]:
    given = np.atleast_1d(_finite(name, values)).tolist()
    if len(given) not in (1, 2):
        raise InputError(f"expected one or two numbers for {name}, got {given}.")
    return int(given[0]), int(given[-1])


def _bias(node: Any, weight: Tensor) -> Tensor:
    bias = torch.as_tensor(_finite("bias", node.bias)).to(weight.dtype)
    if bias.shape != weight.shape[:1]:
        raise InputError(
            f"expected {weight.shape[0]} values of bias, got shape {tuple(bias.shape)}."
        )
    return bias.clone()
