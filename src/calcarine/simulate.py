"""The one loop over time.

    outputs[t], state = stage(movie[t], state)      for t = 0, 1, ..., T-1

Three ways to go through the loop, the same numbers from each:

    scan       the stage's own fused pass over the whole sequence, where it defines one
    compiled   chunks of plain steps through torch.compile
    plain      one Python call per step

Gradients of the compiled chunks cannot be differentiated again; those of plain steps can.

Stopping after any step and going on with the returned state equals running through.

Axes    T time, first | B batch, second | ... whatever the stage takes
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from calcarine.engines import compiler_found, one_step, run_compiled, run_plain, run_segments
from calcarine.errors import InputError, RunError, ShapeError, UnknownNameError
from calcarine.files import output_file
from calcarine.stage import DynamicStage, FusedStage, Pathway

__all__ = ["COMPILE_FROM_STEPS", "Recorder", "Recording", "run"]

Engine = Literal["auto", "scan", "compiled", "plain"]

COMPILE_FROM_STEPS = 500
"""Movies of at least this many steps are compiled by default: compiling takes about ten seconds."""

SLAB_STEPS = 256


class Recording:
    """Where one recorded variable goes: memory, or a ``.npy`` file written as time goes by.

    Args:
        path: File to stream to. ``None`` keeps the values in memory.
        every: Keep every n-th step only, starting with the first.

    Raises:
        InputError: If ``path`` exists already or does not end in ``.npy``.
    """

    def __init__(self, path: str | Path | None = None, *, every: int = 1) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None and self.path.suffix != ".npy":
            raise InputError(f"Recording expected a path ending in .npy, got {self.path}.")
        if self.path is not None and self.path.exists():
            raise InputError(f"Recording would overwrite {self.path}. Choose another name.")
        if every < 1:
            raise InputError(f"Recording expected every >= 1, got {every}.")
        self.every = every
        self._values: Tensor | np.ndarray | None = None
        self._steps: list[Tensor] = []
        self._file: Any = None
        self._stack = ExitStack()

    @property
    def values(self) -> Any:
        """What was recorded, axes (time, batch, ...): a tensor, or a memory-mapped array."""
        if self._values is None:
            raise RunError("Recording holds nothing yet. Pass it to simulate.run(record=...).")
        return self._values

    def _open(self, example: Tensor, steps: int) -> None:
        if self._values is not None:
            raise InputError("Recording already holds a run. Make a new Recording for each run.")
        if self.path is None:
            return
        kept = (steps + self.every - 1) // self.every
        dtype = _as_array(example).dtype
        self._file = self._stack.enter_context(output_file(self.path))
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (kept, *example.shape),
        }
        np.lib.format.write_array_header_2_0(self._file, header)

    def append(self, value: Tensor, step: int, steps: int) -> None:
        """Keep the value of one step, of ``steps`` in all, if it is due."""
        if step == 0:
            self._open(value, steps)
        if step % self.every:
            return
        if self._file is None:
            self._steps.append(value.detach().clone())
        else:
            self._file.write(np.ascontiguousarray(_as_array(value)).tobytes())

    def close(self, failure: BaseException | None = None) -> None:
        """Finish; after a failure the file is removed, as if there had never been one."""
        if failure is not None:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
        elif self.path is None:
            self._values = torch.stack(self._steps)
        else:
            self._stack.close()
            self._values = np.load(self.path, mmap_mode="r", allow_pickle=False)
        self._steps = []
        self._file = None


def _as_array(value: Tensor) -> np.ndarray:
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


class Recorder:
    """Taps named inner stages of a model while it runs.

    A name is the path of an inner stage (``"v1.excitatory"``: what that stage puts out) or of a
    field of its state (``"v1.excitatory.v"``: its membrane voltage). When a stage runs several
    times within a step, the last value counts.

    Args:
        stage: The model.
        record: Name to :class:`Recording`.

    Raises:
        UnknownNameError: If a name leads nowhere; the message lists what there is.
    """

    def __init__(self, stage: nn.Module, record: Mapping[str, Recording]) -> None:
        self._record = dict(record)
        self._latest: dict[str, Tensor] = {}
        self._hooks = [self._tap(stage, name) for name in self._record]

    def _tap(self, stage: nn.Module, name: str) -> Any:
        modules = dict(stage.named_modules())
        path, field = (name, "") if name in modules else name.rpartition(".")[::2]
        inner = [n for n in modules if n]
        if path not in modules or (field and not isinstance(modules[path], DynamicStage)):
            raise UnknownNameError("inner stage to record", name, inner)

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if not field:
                self._latest[name] = output[0] if isinstance(output, tuple) else output
                return
            state = output[1]
            if field not in state._fields:
                fields = [f"{path}.{f}".lstrip(".") for f in state._fields]
                raise UnknownNameError("variable to record", name, [*fields, *inner])
            self._latest[name] = getattr(state, field)

        return modules[path].register_forward_hook(keep)

    def keep_step(self, step: int, steps: int) -> None:
        """Pass what the taps saw in this step on to the recordings."""
        for name, recording in self._record.items():
            if name not in self._latest:
                raise RunError(f"{name!r} is part of the model but took no part in step {step}.")
            recording.append(self._latest.pop(name), step, steps)

    def close(self, failure: BaseException | None = None) -> None:
        """Remove the taps; finish the recordings, or drop unfinished files after a failure."""
        for hook in self._hooks:
            hook.remove()
        for recording in self._record.values():
            recording.close(failure)


def run(
    stage: nn.Module,
    movie: Shaped[Tensor, "T B ..."],
    state: Any = None,
    record: Mapping[str, Recording] | None = None,
    *,
    engine: Engine = "auto",
    checkpoint_steps: int = 0,
) -> tuple[Shaped[Tensor, "T B ..."], Any]:
    """Run a stage over a movie.

    Args:
        stage: A :class:`DynamicStage`, or any module without memory, which sees frame by frame.
        movie: Input with axes (time, batch, ...).
        state: Where to go on from; ``None`` starts at rest.
        record: Inner variables to keep, for example ``{"v1.excitatory": Recording()}``. Recording
            goes step by step.
        engine: ``"auto"`` takes the stage's ``scan`` when it has one, compiles long movies when a
            compiler is there, and steps otherwise. The other names force one way.
        checkpoint_steps: For less memory during learning: keep only the states at the borders of
            segments of so many steps, and run each segment again in the backward pass. About the
            square root of the number of steps takes least. The gradients stay the same, and
            cannot be differentiated again. 0 keeps everything.

    Returns:
        Outputs with axes (time, batch, ...), and the state after the last step (``None`` for a
        stage without memory).

    Raises:
        ShapeError: If the movie has no time step or fewer than two axes.
        InputError: If an engine is forced that the stage or the recording does not allow.
    """
    if movie.ndim < 2 or movie.shape[0] == 0:
        raise ShapeError(
            "simulate.run expected a movie with axes (time, batch, ...) and at least one time "
            f"step, got shape {tuple(movie.shape)}. For one frame call the stage itself."
        )
    if state is None and isinstance(stage, DynamicStage):
        state = stage.initial_state(movie[0])
    _check_engine(stage, bool(record), engine)
    _check_checkpoint(checkpoint_steps, bool(record))
    if record:
        return _run_recorded(stage, movie, state, record)
    compiled = _worth_compiling(movie)

    def go(stage: nn.Module, movie: Tensor, state: Any) -> tuple[Tensor, Any]:
        if engine == "plain":
            return run_plain(stage, movie, state)
        if engine == "compiled":
            return run_compiled(stage, movie, state)
        return _run_fastest(stage, movie, state, compiled=compiled)

    if checkpoint_steps:
        return run_segments(go, stage, movie, state, checkpoint_steps)
    return go(stage, movie, state)


def run_steps(stage: nn.Module, movie: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Run a stage without asking for its scan: for a scan that does not cover its input.

    Args:
        stage: Any stage.
        movie: Input with axes (time, batch, ...).
        state: State before the first step.

    Returns:
        What :func:`run` returns.
    """
    return (run_compiled if _worth_compiling(movie) else run_plain)(stage, movie, state)


def _check_checkpoint(steps: int, recording: bool) -> None:
    if steps < 0 or (steps and recording):
        raise InputError(
            f"simulate.run expected checkpoint_steps >= 0, and 0 while recording, got {steps}."
        )


def _worth_compiling(movie: Tensor) -> bool:
    return movie.shape[0] >= COMPILE_FROM_STEPS and compiler_found(movie)


def _check_engine(stage: nn.Module, recording: bool, engine: Engine) -> None:
    if engine not in ("auto", "scan", "compiled", "plain"):
        raise UnknownNameError("engine", engine, ["auto", "scan", "compiled", "plain"])
    if engine == "scan" and not isinstance(stage, FusedStage):
        raise InputError(f"{type(stage).__name__} defines no scan. Use engine='auto'.")
    if recording and engine in ("scan", "compiled"):
        raise InputError(f"Recording goes step by step. Use engine='plain' instead of {engine!r}.")


def _run_recorded(
    stage: nn.Module, movie: Tensor, state: Any, record: Mapping[str, Recording]
) -> tuple[Tensor, Any]:
    recorder = Recorder(stage, record)
    outputs = []
    try:
        for step, frame in enumerate(movie.unbind(0)):
            output, state = one_step(stage, frame, state)
            recorder.keep_step(step, movie.shape[0])
            outputs.append(output)
    except BaseException as failure:
        recorder.close(failure)
        raise
    recorder.close()
    return torch.stack(outputs), state


def _run_fastest(
    stage: nn.Module, movie: Tensor, state: Any, *, compiled: bool
) -> tuple[Tensor, Any]:
    if isinstance(stage, FusedStage):
        return stage.scan(movie, state)
    if isinstance(stage, Pathway):
        return _run_pathway(stage, movie, state, compiled=compiled)
    return (run_compiled if compiled else run_plain)(stage, movie, state)


def _run_pathway(
    stage: Pathway, movie: Tensor, state: Any, *, compiled: bool
) -> tuple[Tensor, Any]:
    """Run part after part over slabs of time, so that every part takes its own fastest way.

    A pathway has no feedback, so a part may run ahead of those behind it; slabs bound the memory.
    """
    states = list(state.stages)
    outputs = []
    for slab in movie.split(SLAB_STEPS):
        for index, name in enumerate(stage.order):
            part = getattr(stage, name)
            slab, states[index] = _run_fastest(part, slab, states[index], compiled=compiled)
        outputs.append(slab)
    return torch.cat(outputs), type(state)(tuple(states))
