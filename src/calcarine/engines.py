"""Ways through the loop over time: plain steps, compiled chunks, and segments run twice.

    plain        one Python call per step; autograd keeps what every step computed
    compiled     chunks of plain steps through torch.compile
    segmented    any of the others, segment by segment: only the states at their borders are kept,
                 and the way back runs each segment again

Every way gives the numbers of the plain steps. :func:`calcarine.simulate.run` chooses.

Axes    T time, first | B batch, second | ... whatever the stage takes
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge

from calcarine.errors import CalcarineWarning, RunError
from calcarine.native import transformed
from calcarine.stage import DynamicStage, detach_state, state_tensors

__all__ = ["CHUNK_STEPS", "Engine", "compiler_found", "run_compiled", "run_plain", "run_segments"]

Engine = Callable[[nn.Module, Tensor, Any], tuple[Tensor, Any]]
"""``(stage, movie, state) -> (outputs, state)``."""

CHUNK_STEPS = 20
"""Steps compiled into one piece of code, and between the states kept for the way back; ours."""

_compiled: WeakKeyDictionary[nn.Module, Callable[..., Any]] = WeakKeyDictionary()


def compiler_found(like: Tensor) -> bool:
    """Say whether torch.compile can produce code for the device of ``like``."""
    if like.device.type == "cpu":
        return shutil.which(os.environ.get("CXX", "g++")) is not None
    return like.device.type == "cuda"


def one_step(stage: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Advance any module by one step; one without memory has no state."""
    return stage(x, state) if isinstance(stage, DynamicStage) else (stage(x), None)


def run_plain(stage: nn.Module, movie: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Run step by step."""
    outputs = []
    for frame in movie.unbind(0):
        output, state = one_step(stage, frame, state)
        outputs.append(output)
    return torch.stack(outputs), state


def run_compiled(stage: nn.Module, movie: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Run chunks of compiled steps; warn and go on plainly where the compiler fails."""
    if transformed():  # what sees operations does not see what a compiler made
        return run_plain(stage, movie, state)
    return run_segments(_chunk, stage, movie, state, CHUNK_STEPS)


def _chunk(stage: nn.Module, frames: Tensor, state: Any) -> tuple[Tensor, Any]:
    if frames.shape[0] != CHUNK_STEPS:
        return run_plain(stage, frames, state)
    # One code object serves every stage, so the usual limit of 8 variants would be met soon.
    # The compiler warns about its own internals; nothing of that is for the caller.
    with warnings.catch_warnings(), torch._dynamo.config.patch(recompile_limit=256):
        warnings.simplefilter("ignore")
        if stage not in _compiled:
            _compiled[stage] = torch.compile(_steps, dynamic=False)
        try:
            return _compiled[stage](stage, frames, state)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            failure = type(error).__name__
    warnings.warn(
        f"torch.compile failed for {type(stage).__name__} ({failure}); running plain steps "
        "instead. Pass engine='plain' to silence this.",
        CalcarineWarning,
        stacklevel=2,
    )
    _compiled[stage] = run_plain
    return run_plain(stage, frames, state)


def _steps(stage: nn.Module, frames: Tensor, state: Any) -> tuple[Tensor, Any]:
    return run_plain(stage, frames, state)


def run_segments(
    engine: Engine, stage: nn.Module, movie: Tensor, state: Any, steps: int
) -> tuple[Tensor, Any]:
    """Run a movie segment by segment into one output, keeping only the states at the borders.

    Args:
        engine: What runs a segment.
        stage: The stage.
        movie: Input with axes (time, batch, ...).
        state: State before the first step.
        steps: Steps of a segment.

    Returns:
        Outputs and the last state. Their gradients cost one more pass, and cannot themselves be
        differentiated.

    Raises:
        RunError: In the backward pass, if the stage has other parameters then.
    """
    before = state_tensors(state)
    leaves = _leaves(stage, movie, state) if torch.is_grad_enabled() else []
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in (movie, *before, *leaves))):
        out, after = None, state
        for first, frames in zip(_starts(movie, steps), movie.split(steps), strict=True):
            segment, after = engine(stage, frames, after)
            out = _put(out, segment, first, movie.shape[0])
        assert out is not None
        return out, after
    job = _Job(engine, stage, state, len(before), steps, None)
    out, *after = _Segments.apply(job, movie, *before, *leaves)
    return out, _rebuilt(job.after, iter(after))


def _starts(movie: Tensor, steps: int) -> range:
    return range(0, movie.shape[0], steps)


def _put(out: Tensor | None, segment: Tensor, first: int, steps: int) -> Tensor:
    if out is None:
        out = segment.new_empty((steps, *segment.shape[1:]))
    out[first : first + segment.shape[0]] = segment
    return out


def _leaves(stage: nn.Module, movie: Tensor, state: Any) -> list[Tensor]:
    """Return every tensor that one step leads gradients to, parameter of the stage or not."""
    with _Randomness(movie, None), torch.enable_grad():
        output, after = one_step(stage, movie[0].detach(), detach_state(state))
    found: dict[int, Tensor] = {}
    roots = [x for x in (output, *state_tensors(after)) if x.requires_grad]
    nodes: list[Any] = [get_gradient_edge(x).node for x in roots]
    seen = set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(leaf := getattr(node, "variable", None), Tensor):
            found[id(leaf)] = leaf
        nodes += [following for following, _ in node.next_functions]
    return list(found.values())


def _rebuilt(like: Any, tensors: Any) -> Any:
    """Return a state of the structure of ``like`` with other tensors in it."""
    if isinstance(like, Tensor):
        return next(tensors)
    if isinstance(like, tuple):
        parts = [_rebuilt(part, tensors) for part in like]
        return tuple(parts) if type(like) is tuple else type(like)(*parts)
    return like


class _Randomness:
    """Draw the same random numbers again: restore a kept state, and leave none behind."""

    def __init__(self, like: Tensor, kept: list[Tensor] | None) -> None:
        self.fork = torch.random.fork_rng([like.device] if like.is_cuda else [])
        self.like, self.kept = like, kept

    def __enter__(self) -> None:
        self.fork.__enter__()
        if self.kept is not None:
            torch.set_rng_state(self.kept[0])
            if self.like.is_cuda:
                torch.cuda.set_rng_state(self.kept[1], self.like.device)

    def __exit__(self, *failure: Any) -> None:
        self.fork.__exit__(*failure)


def _random_state(like: Tensor) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(like.device)] if like.is_cuda else states


@dataclass
class _Job:
    engine: Engine
    stage: nn.Module
    before: Any  # a state, for its structure
    states: int  # tensors in it
    steps: int
    after: Any


class _Segments(torch.autograd.Function):
    """``(outputs, *tensors of the last state)`` from the movie, the first state and the leaves."""

    @staticmethod
    def forward(ctx: Any, job: _Job, movie: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        state, out = _rebuilt(job.before, iter(tensors)), None
        ctx.job, ctx.borders, ctx.random = job, [], []
        for first, frames in zip(_starts(movie, job.steps), movie.split(job.steps), strict=True):
            ctx.borders.append([x.detach() for x in state_tensors(state)])
            ctx.random.append(_random_state(movie))
            segment, state = job.engine(job.stage, frames, state)
            out = _put(out, segment, first, movie.shape[0])
        assert out is not None
        ctx.save_for_backward(movie, *tensors)
        job.before = job.after = detach_state(state)
        # Copies: what the stage passed on unchanged would be input and output at once.
        after = [x.clone() for x in state_tensors(state)]
        ctx.mark_non_differentiable(*[x for x in after if not x.is_floating_point()])
        return out, *after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, *grad_after: Tensor) -> tuple[Tensor | None, ...]:
        movie, *tensors = ctx.saved_tensors
        job, leaves = ctx.job, tensors[ctx.job.states :]
        grad_movie = torch.empty_like(movie) if ctx.needs_input_grad[1] else None
        sums: list[Tensor | None] = [None] * len(leaves)
        grads: Sequence[Tensor | None] = grad_after
        for index in reversed(range(len(ctx.borders))):
            rows = slice(index * job.steps, min((index + 1) * job.steps, movie.shape[0]))
            frames = movie[rows].detach().requires_grad_(grad_movie is not None)
            before = [_fresh(x) for x in ctx.borders.pop()]
            with _Randomness(movie, ctx.random[index]), torch.enable_grad():
                state = _rebuilt(job.before, iter(before))
                output, after = job.engine(job.stage, frames, state)
            wanted = [frames, *before, *leaves]
            found = _gradients([output, *state_tensors(after)], [grad_out[rows], *grads], wanted)
            if grad_movie is not None:
                grad_movie[rows] = 0 if found[0] is None else found[0]
            grads = found[1 : 1 + job.states]
            for place, grad in enumerate(found[1 + job.states :]):
                total = sums[place]
                sums[place] = grad if total is None or grad is None else total + grad
        _check_leaves(job.stage, leaves, sums)
        return None, grad_movie, *grads, *sums


def _fresh(x: Tensor) -> Tensor:
    return x.detach().requires_grad_() if x.is_floating_point() else x


def _gradients(
    outputs: Sequence[Tensor], grads: Sequence[Tensor | None], inputs: Sequence[Tensor]
) -> list[Tensor | None]:
    """Return the gradient to every input, ``None`` where there is none."""
    pairs = [
        (output, grad)
        for output, grad in zip(outputs, grads, strict=True)
        if output.requires_grad and grad is not None
    ]
    asked = [x for x in inputs if x.requires_grad]
    if not pairs or not asked:
        return [None] * len(inputs)
    found = iter(
        torch.autograd.grad([p[0] for p in pairs], asked, [p[1] for p in pairs], allow_unused=True)
    )
    return [next(found) if x.requires_grad else None for x in inputs]


def _check_leaves(stage: nn.Module, leaves: list[Tensor], sums: list[Tensor | None]) -> None:
    if leaves and all(each is None for each in sums):
        raise RunError(
            f"{type(stage).__name__} had other parameters in the backward pass than in the "
            "forward pass. Keep them in place until then, or pass engine='plain'."
        )
