"""What several verbs need: runs by folder, pictures by name, and lines for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calcarine.errors import FileFormatError, InputError, suggestion

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = [
    "check_age",
    "check_run",
    "chosen_ages",
    "known_runs",
    "note",
    "open_picture",
    "picture_name",
    "print_table",
]

_SAMPLE = "sample:"


def runs_here() -> list[Path]:
    """Return the run folders inside ``./runs``."""
    return sorted(path.parent for path in Path("runs").glob("*/recipe.yaml"))


def known_runs() -> str:
    """Say in one sentence which runs there are to choose from."""
    found = [str(path) for path in runs_here()]
    if not found:
        return "There are no runs in ./runs yet; train one with: calcarine train"
    return f"Runs here: {', '.join(found)}."


def check_run(folder: Path) -> Path:
    """Return the folder if it is that of a run.

    Raises:
        FileFormatError: With the runs that there are.
    """
    if (folder / "recipe.yaml").is_file():
        return folder
    what = "holds no run (no recipe.yaml)" if folder.is_dir() else "does not exist"
    if folder.is_file():
        what = "is a file, not the folder of a run"
    close = suggestion(str(folder), [str(path) for path in runs_here()])
    raise FileFormatError(f"{folder} {what}.{close} {known_runs()}")


def check_age(folder: Path, age: int) -> int:
    """Return the age if the run has weights of that age.

    Raises:
        InputError: With the ages that there are.
    """
    from calcarine.training import snapshot_ages
    from calcarine.training.checkpoint import checkpoint_updates

    ages = sorted({*snapshot_ages(folder), *checkpoint_updates(folder)})
    if age not in ages:
        raise InputError(
            f"{folder} has no weights after {age} updates. It has those after "
            f"{', '.join(map(str, ages)) or 'none'}."
        )
    return age


def chosen_ages(text: str, run: Path, kept: Sequence[int], final: int | None) -> list[int]:
    """Read ``--ages``: numbers, ``final`` and ``all``, in ascending order.

    Raises:
        InputError: If a word is none of these, or there are no weights of an age.
    """
    ages: set[int] = set()
    for word in (part.strip() for part in text.split(",")):
        if word == "all":
            ages.update(kept if final is None else (*kept, final))
        elif word == "final" and final is not None:
            ages.add(final)
        elif word.isdecimal():
            ages.add(check_age(run, int(word)))
        else:
            raise InputError(
                f"--ages expected numbers of updates, final or all, got {word!r}. {run} has "
                f"weights after {', '.join(map(str, kept))} updates."
            )
    return sorted(ages)


def picture_name(image: str) -> str:
    """Return a short name for files made from a picture."""
    return image.removeprefix(_SAMPLE) if image.startswith(_SAMPLE) else Path(image).stem


def open_picture(image: str, size: int | None = None) -> Float[Tensor, "1 3 H W"]:
    """Load a picture in sRGB.

    Args:
        image: A path, or ``sample:NAME``.
        size: Length of the shorter side, px; ``None`` keeps the size.

    Raises:
        FileFormatError: If there is no such file, or it is not an image.
        UnknownNameError: If there is no such sample.
    """
    from calcarine.stimuli import load_image
    from calcarine.stimuli.samples import picture_path

    return load_image(picture_path(image), size=size, channels="rgb")


def note(text: str) -> None:
    """Tell on standard error what is being done, so that standard output holds results only."""
    print(text, file=sys.stderr, flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> None:
    """Print a table; columns whose name starts with ``>`` are set flush right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        table.add_column(
            name.removeprefix(">"),
            justify="right" if name.startswith(">") else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)  # nothing is gained by folding lines of a file
    console.print(table)
