"""The one loop that every learning task goes through, by gradient or by local rule.

    update -> (log) -> (snapshot) -> (checkpoint) -> update -> ...

What lies on disk is always a state between two updates, so a run that was interrupted or killed and
then resumed has the weights, the log and the counts of one that never stopped, bit for bit (on the
same device, with operations that are themselves deterministic).

A run may have phases, and several processes may share it: all go through this loop together, the
first of them writes, and what stops one stops all.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from calcarine.distributed import World, join
from calcarine.errors import InputError, NonFiniteError
from calcarine.interrupt import Interrupt
from calcarine.progress import Progress, open_progress
from calcarine.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from calcarine.training.folder import (
    begin_run,
    check_space,
    continue_run,
    run_identity,
    write_recipe,
)
from calcarine.training.lock import only_training_in
from calcarine.training.loggers import Logger, Loggers, open_loggers
from calcarine.training.meter import Meter
from calcarine.training.session import Session, find_device, own_random_state
from calcarine.training.settings import TrainingSettings
from calcarine.training.snapshots import write_snapshot
from calcarine.training.task import Task
from calcarine.training.weights import nonfinite

__all__ = ["FitResult", "fit"]


@dataclass(frozen=True)
class FitResult:
    """How a training run ended.

    Attributes:
        updates: Number of updates done since the run began.
        status: ``"finished"``, or ``"interrupted"`` when it was asked to stop and can be resumed.
        skipped: Number of non-finite gradient steps skipped since the run began.
        seconds: Duration of this call.
        scalars: Everything the last update returned, as numbers.
        peak_memory_bytes: Largest memory that tensors took on the GPU; 0 on the CPU.
        folder: The run's folder.
    """

    updates: int
    status: Literal["finished", "interrupted"]
    skipped: int
    seconds: float
    scalars: dict[str, float]
    folder: Path
    peak_memory_bytes: int = 0

    @property
    def losses(self) -> dict[str, float]:
        """Losses of the last update by objective; empty for a task without gradient."""
        return {n[5:]: value for n, value in self.scalars.items() if n.startswith("loss/")}


def fit(
    task: Task,
    settings: TrainingSettings,
    folder: str | Path,
    *,
    recipe: Mapping[str, Any],
    seed: int,
    resume: bool = False,
    progress: bool = True,
    device: torch.device | str | None = None,
) -> FitResult:
    """Let a task learn.

    Ctrl-C and SIGTERM finish the current update, save a checkpoint and return with the status
    ``"interrupted"``; a second Ctrl-C raises ``KeyboardInterrupt`` at once. Under ``torchrun`` all
    processes call this together and get the same weights; only the first one writes.

    Args:
        task: What is learned.
        settings: How long, how fast, and how often it is saved and logged.
        folder: The run's folder: new or empty, or with ``resume`` that of an earlier run.
        recipe: What describes the run, as plain data; kept with every checkpoint and written to
            ``recipe.yaml`` unless the caller has done so.
        seed: Seed of everything random inside the run. Torch's global random state is left as it
            was.
        resume: Continue from the latest checkpoint in ``folder``, bit for bit.
        progress: Whether to show progress on standard error.
        device: Where to learn; the modules are moved there. Left out, they stay where they are.

    Raises:
        InputError: If the folder, the seed or the task cannot be used, another training is writing
            to the folder, or a task that does not share its batches is given several processes.
        CheckpointError: If there is nothing to resume, it is damaged, or of another recipe; or if
            a checkpoint cannot be written.
        NonFiniteError: If gradients stay non-finite, or weights have diverged.
    """
    started = time.perf_counter()
    folder = Path(folder)
    place = join("cpu" if str(device) == "cpu" else "auto")
    place.on_writer(lambda: _check_sharing(task, place))
    identity = run_identity(recipe, settings, seed)
    with contextlib.ExitStack() as stack:
        place.on_writer(lambda: stack.enter_context(only_training_in(folder, make=not resume)))
        checkpoint = _open_folder(folder, identity, place, resume=resume)
        where = find_device(task, device)
        stack.enter_context(own_random_state(seed, where))
        session = Session(task, settings, seed=seed, device=where, place=place)
        run_id = uuid.uuid4().hex
        if checkpoint is not None:
            session.restore(checkpoint)
            run_id = checkpoint.run_id
        saver = _Saver(folder, session, identity, run_id)
        saver.open()
        loggers = place.on_writer(
            lambda: open_loggers(
                settings, folder, update=session.done, run_id=run_id, recipe=identity["recipe"]
            )
        )
        loggers = stack.enter_context(contextlib.closing(loggers or Loggers({})))
        meter = Meter(where)
        shown = open_progress(settings.updates, session.done, shown=progress and place.is_writer)
        stack.enter_context(contextlib.closing(shown))
        _learn(session, saver, loggers, shown, meter, stack.enter_context(Interrupt()))
    return FitResult(
        updates=session.done,
        status="finished" if session.done >= settings.updates else "interrupted",
        skipped=session.learner.guard.total,
        seconds=time.perf_counter() - started,
        scalars=session.scalars(),
        folder=folder,
        peak_memory_bytes=meter.peak_memory_bytes,
    )


def _check_sharing(task: Task, place: World) -> None:
    if place.size > 1 and not task.shares:
        raise InputError(
            f"{type(task).__name__} learns in one process, but {place.size} were started: it does "
            "not share its batches (shares=False). Start it without torchrun."
        )


def _open_folder(
    folder: Path, identity: dict[str, Any], place: World, *, resume: bool
) -> Checkpoint | None:
    """Begin or continue a run; every process reads the checkpoint before any is written."""
    if not resume:
        place.on_writer(lambda: begin_run(folder))
        return None
    checkpoint = place.on_writer(lambda: continue_run(folder, identity))
    if checkpoint is None:
        checkpoint = read_checkpoint(folder)
    place.barrier()
    return checkpoint


def _learn(
    session: Session,
    saver: _Saver,
    loggers: Logger,
    shown: Progress,
    meter: Meter,
    interrupt: Interrupt,
) -> None:
    """Update until the end or an interrupt; save what is due after each update."""
    settings = session.settings
    milestones = {1, *settings.ends, *(end + 1 for end in settings.ends)}
    if session.done == 0:
        saver.snapshot(loggers)
    while session.done < settings.updates and not session.place.any(interrupt.requested):
        try:
            session.advance()
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{error} This was update {session.done + 1}{_within(session)}. {saver.last_good()}"
            ) from error
        if session.done % settings.log_every == 0 or session.done in milestones:
            scalars = {**_log_line(session), **meter.line(session.done)}
            loggers.log(session.done, scalars)
            shown.values(scalars, title=session.phase)
        shown.advance(session.done)
        if session.done in saver.ages:
            saver.snapshot(loggers)
        if session.done % settings.checkpoint_every == 0:
            saver.checkpoint(loggers)
    if saver.saved != session.done:
        saver.checkpoint(loggers)
    if session.done < settings.updates:
        shown.note(
            f"Interrupted and saved after update {session.done} of {settings.updates}. Resume to "
            f"continue: {saver.folder}"
        )


def _within(session: Session) -> str:
    span = session.settings.span(session.done)
    return f" ({span.done + 1} of {span.updates} of phase {span.phase!r})" if span.phase else ""


def _log_line(session: Session) -> dict[str, float]:
    line = {"learning_rate": session.rate, **session.scalars()}
    guard = session.learner.guard
    return {**line, "skipped": guard.total} if guard.skipped else line


class _Saver:
    """Writes a session's checkpoints and snapshots, never diverged ones; all processes call it."""

    def __init__(
        self, folder: Path, session: Session, identity: dict[str, Any], run_id: str
    ) -> None:
        self.folder = folder
        self.ages = frozenset(session.settings.snapshot_ages)
        self.saved = session.done
        self._session = session
        self._identity = identity
        self._run_id = run_id

    def open(self) -> None:
        """Check the room on the disk; put down the first checkpoint and the recipe."""
        session = self._session
        tensors = [t for m in session.modules.values() for t in m.state_dict().values()]
        size = sum(t.numel() * t.element_size() for t in tensors)
        due = sum(age >= session.done for age in self.ages)
        # Adam keeps two means per weight; one checkpoint more than kept while it is written.
        needed = size * (3 * (session.settings.keep_checkpoints + 1) + due)
        session.place.on_writer(lambda: check_space(self.folder, needed))
        if session.done == 0:
            self.checkpoint(None)
        session.place.on_writer(lambda: write_recipe(self.folder, self._identity))

    def checkpoint(self, loggers: Logger | None) -> None:
        """Save everything needed to continue; log lines reach the disk before it."""
        session = self._session
        training = session.capture()

        def write() -> None:
            self._refuse_diverged()
            if loggers is not None:
                loggers.flush()
            write_checkpoint(
                self.folder,
                modules=session.modules,
                update=session.done,
                training=training,
                identity=self._identity,
                run_id=self._run_id,
                keep=session.settings.keep_checkpoints,
                phase=session.phase,
            )

        session.place.on_writer(write)
        self.saved = session.done

    def snapshot(self, loggers: Logger) -> None:
        """Save the weights for good when this age is asked for, and the task's pictures."""
        session = self._session
        if session.done not in self.ages:
            return

        def write() -> None:
            self._refuse_diverged()
            write_snapshot(self.folder, session.modules, update=session.done)

        session.place.on_writer(write)
        with torch.no_grad():
            for name, picture in session.task.images().items():
                loggers.image(name, session.done, picture)

    def last_good(self) -> str:
        """Say where the last checkpoint is."""
        return f"The last checkpoint, of update {self.saved}, is in {self.folder}."

    def _refuse_diverged(self) -> None:
        names = nonfinite(self._session.modules)
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise NonFiniteError(
                f"After update {self._session.done} these weights hold NaN or infinity: "
                f"{', '.join(names[:5])}{more}. They were not saved. {self.last_good()} Lower the "
                "learning rate, or look for NaN in the data."
            )
