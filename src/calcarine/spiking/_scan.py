"""Integrate-and-fire neurons over a whole movie in one pass, on the CPU.

    i1 = i + x;  v1 = v + rate ((v_leak - v) + i1);  z = [v1 > v_th];  reset;  i = decay i1

The neuron's own step defines the numbers; the compiled kernel repeats them bit by bit, with
gradients derived by hand. It keeps the states every few steps and nothing else. What it does not
cover (other devices and dtypes, second derivatives, forward mode, ``torch.func``, no compiler, a
refractory period) goes through plain or compiled steps.

Axes    T time | B batch | remaining axes one neuron each
Source  zenke2018 (surrogate gradient)
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from calcarine.native import Kernel, transformed
from calcarine.simulate import run_steps
from calcarine.spiking.membrane import Reset, reset_potential
from calcarine.spiking.surrogate import Surrogate, spike
from calcarine.stage import DynamicStage

__all__ = ["Update", "kernel_status", "scan"]

SEGMENT_STEPS = 32
"""Steps between kept states: memory of 1 / 32 of the movie, and the cache holds what is between."""

_GRAIN = 20_000  # steps of one neuron that are worth a thread; ours, a guess
_CONSTANTS = ("rate", "v_leak", "v_th", "v_reset", "decay")


@dataclass(frozen=True)
class Update:
    """The step of a neuron in the kernel's terms; numbers, or tensors that fit one frame.

    Args:
        rate: dt / tau_mem, the share of the way to its target that the potential goes in a step.
        v_leak: Potential at rest; ``None`` for a membrane without leak.
        decay: 1 - dt / tau_syn, what remains of the synaptic current; ``None`` without synapse.
        v_th: Threshold; ``None`` for a neuron whose output is its potential.
        v_reset: Potential after a spike with ``reset="value"``.
        reset: Which reset.
        surrogate: Slope of the spike in the backward pass.
        alpha: Steepness of that slope.
    """

    rate: Tensor | float
    v_leak: Tensor | float | None = None
    decay: Tensor | float | None = None
    v_th: Tensor | float | None = None
    v_reset: Tensor | float = 0.0
    reset: Reset = "value"
    surrogate: Surrogate = "superspike"
    alpha: float = 100.0

    def constants(self, like: Tensor) -> list[Tensor]:
        """Return the five constants as tensors of the dtype of ``like``, 0 where there is none."""
        given = [getattr(self, name) for name in _CONSTANTS]
        if self.reset == "subtract":
            given[_CONSTANTS.index("v_reset")] = None
        return [torch.as_tensor(0.0 if g is None else g, dtype=like.dtype) for g in given]


def scan(
    stage: DynamicStage, movie: Tensor, state: Any, update: Update | None
) -> tuple[Tensor, Any]:
    """Advance a neuron over a movie.

    Args:
        stage: The neuron; its state has a field ``v`` and, with a synapse, ``i``.
        movie: Input, axes (time, batch, ...).
        state: State before the first step.
        update: What the kernel is to do, or ``None`` where it does not know the neuron.

    Returns:
        Outputs of the shape of ``movie``, and the last state.
    """
    if update is None or not _covered(movie, state, update):
        return run_steps(stage, movie, state)
    synapse = update.decay is not None
    current = state.i if synapse else state.v.new_empty(0)
    out, v, i = _Scan.apply(update, movie, state.v, current, *update.constants(movie))
    return out, state._replace(v=v, i=i) if synapse else state._replace(v=v)


def kernel_status() -> str:
    """Return what runs movies through spiking neurons on the CPU, and why, in one sentence."""
    return _KERNEL.status()


def _covered(movie: Tensor, state: Any, update: Update) -> bool:
    if torch.compiler.is_compiling():
        return False
    parts = [state.v] if update.decay is None else [state.v, state.i]
    given = [g for name in _CONSTANTS if isinstance(g := getattr(update, name), Tensor)]
    frame = movie.shape[1:]
    return (
        movie.dtype in (torch.float32, torch.float64)
        and all(type(x) in (Tensor, torch.nn.Parameter) for x in (movie, *parts, *given))
        and all(x.device.type == "cpu" and x.dtype == movie.dtype for x in (movie, *parts, *given))
        and all(x.shape == frame for x in parts)
        and all(torch.broadcast_shapes(x.shape, frame) == frame for x in given)
        and movie.numel() > 0
        and not transformed()
        and _KERNEL.library() is not None
    )


class _Scan(torch.autograd.Function):
    """``(out, v, i)`` of a whole movie; constants are scalars or fit one frame."""

    @staticmethod
    def forward(
        ctx: Any, update: Update, movie: Tensor, v: Tensor, i: Tensor, *constants: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        movie, v, i = _rows(movie), v.contiguous(), i.contiguous()
        borders = (movie.shape[0] + SEGMENT_STEPS - 1) // SEGMENT_STEPS
        wanted = any(ctx.needs_input_grad)
        v_kept = v.new_empty((borders, *v.shape) if wanted else 0)
        i_kept = i.new_empty((borders, *i.shape) if wanted else 0)
        out = torch.empty(movie.shape, dtype=movie.dtype)
        v_end, i_end = torch.empty_like(v), torch.empty_like(i)
        call = _Call(update, movie, constants)
        call.set(x=movie, v=v, i=i, out=out, v_end=v_end, i_end=i_end)
        if wanted:
            call.set(v_kept=v_kept, i_kept=i_kept)
            ctx.save_for_backward(movie, v, i, v_kept, i_kept, *constants)
            ctx.update = update
        call.run("scan_forward")
        return out, v_end, i_end

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        movie, v, i, v_kept, i_kept, *constants = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_again(ctx.update, needed, (movie, v, i, *constants), grads)
        out = _rows(grads[0])
        ends = [grad.contiguous() for grad in grads[1:]]
        found = [torch.empty(movie.shape, dtype=v.dtype), torch.empty_like(v), torch.empty_like(i)]
        learned = [v.new_zeros(v.shape) if need else None for need in needed[3:]]
        call = _Call(ctx.update, movie, tuple(constants), learned)
        call.set(x=movie, v=v, i=i, v_kept=v_kept, i_kept=i_kept)
        call.set(grad_out=out, grad_v_end=ends[0], grad_i_end=ends[1])
        call.set(grad_x=found[0], grad_v=found[1], grad_i=found[2])
        call.fields.grad_stride = out.stride(0) if out.shape[0] > 1 else 0
        call.run("scan_backward")
        sums = [
            None if grad is None else grad.sum_to_size(constant.shape)
            for grad, constant in zip(learned, constants, strict=True)
        ]
        kept = [grad if need else None for grad, need in zip(found, needed[:3], strict=True)]
        return None, *kept, *sums


def _rows(movie: Tensor) -> Tensor:
    """Return a movie whose frames are contiguous; one frame repeated over time stays one frame."""
    if movie.stride(0) == 0:
        return movie[0].contiguous().expand(movie.shape)
    return movie if movie[0].is_contiguous() else movie.contiguous()


def _again(
    update: Update, needed: tuple[bool, ...], inputs: tuple[Tensor, ...], grads: tuple[Tensor, ...]
) -> list[Tensor | None]:
    """Return the gradients as something to be differentiated again: by way of single steps."""
    movie, v, i, rate, v_leak, v_th, v_reset, decay = inputs
    outs = []
    for x in movie.unbind(0):
        if update.decay is not None:
            x = i + x
            i = x * decay
        v = v + rate * (x if update.v_leak is None else (v_leak - v) + x)
        outs.append(v)
        if update.v_th is not None:
            outs[-1] = spike(v - v_th, update.surrogate, update.alpha)
            v = reset_potential(v, outs[-1], update.reset, v_th, v_reset)
    wanted = [x for x, need in zip(inputs, needed, strict=True) if need]
    ends = zip((torch.stack(outs), v, i), grads, strict=True)
    pairs = [(end, grad) for end, grad in ends if end.requires_grad]
    found = iter(
        torch.autograd.grad(
            [p[0] for p in pairs], wanted, [p[1] for p in pairs],
            create_graph=True, allow_unused=True,
        )
    )  # fmt: skip
    return [next(found) if need else None for need in needed]


class _Fields(ctypes.Structure):
    """What the kernel is given; the same order as in the C++ file."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("steps", "units", "segment", "threads")),
        *((name, ctypes.c_int64) for name in ("is_double", "synapse", "leaky", "spiking")),
        *((name, ctypes.c_int64) for name in ("subtract", "surrogate", "learn")),
        ("alpha", ctypes.c_double),
        ("constant", ctypes.c_void_p * len(_CONSTANTS)),
        ("per_unit", ctypes.c_int64 * len(_CONSTANTS)),
        *((name, ctypes.c_void_p) for name in ("x", "v", "i")),
        *((name, ctypes.c_int64) for name in ("x_stride", "grad_stride")),
        *((name, ctypes.c_void_p) for name in ("out", "v_end", "i_end", "v_kept", "i_kept")),
        *((name, ctypes.c_void_p) for name in ("grad_out", "grad_v_end", "grad_i_end")),
        *((name, ctypes.c_void_p) for name in ("grad_x", "grad_v", "grad_i")),
        ("grad_constant", ctypes.c_void_p * len(_CONSTANTS)),
    )


class _Call:
    """The arguments of one call of the kernel, and the tensors that own their memory."""

    def __init__(
        self,
        update: Update,
        movie: Tensor,
        constants: tuple[Tensor, ...],
        learned: list[Tensor | None] | None = None,
    ) -> None:
        frame = movie.shape[1:]
        each = [c if c.numel() == 1 else c.expand(frame).contiguous() for c in constants]
        grads = learned or [None] * len(each)
        units = frame.numel()
        self.alive: list[Tensor] = each
        self.fields = _Fields(
            steps=movie.shape[0], units=units, segment=SEGMENT_STEPS,
            threads=max(1, min(torch.get_num_threads(), movie.numel() // _GRAIN)),
            is_double=movie.dtype == torch.float64, synapse=update.decay is not None,
            leaky=update.v_leak is not None, spiking=update.v_th is not None,
            subtract=update.reset == "subtract",
            surrogate=get_args(Surrogate).index(update.surrogate),
            learn=any(grad is not None for grad in grads), alpha=update.alpha,
            x_stride=movie.stride(0) if movie.shape[0] > 1 else 0,
        )  # fmt: skip
        for index, (constant, grad) in enumerate(zip(each, grads, strict=True)):
            self.fields.constant[index] = constant.data_ptr()
            self.fields.per_unit[index] = int(constant.numel() > 1)
            self.fields.grad_constant[index] = None if grad is None else grad.data_ptr()

    def set(self, **tensors: Tensor) -> None:
        """Pass tensors by the names of the fields."""
        for name, tensor in tensors.items():
            self.alive.append(tensor)
            setattr(self.fields, name, tensor.data_ptr())

    def run(self, name: str) -> None:
        """Call the kernel."""
        getattr(_KERNEL.library(), name)(ctypes.byref(self.fields))


def _declare(built: ctypes.CDLL) -> None:
    for function in (built.scan_forward, built.scan_backward):
        function.argtypes, function.restype = (ctypes.POINTER(_Fields),), None


_KERNEL = Kernel(
    "scan",
    Path(__file__).with_name("_scan_kernel.cpp"),
    # Bit by bit what torch computes: multiply and add stay apart.
    flags=("-ffp-contract=off", "-fno-trapping-math"),
    declare=_declare,
)
