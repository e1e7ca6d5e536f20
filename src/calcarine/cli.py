"""The command line: which verbs there are, and how a command may end.

    0    done
    1    something failed while working, or an optional part is missing
    2    what was typed, or a file it names, cannot be used
    130  interrupted

Every verb is one function of :mod:`calcarine.commands`; its docstring is its help. What takes long
to import is imported inside them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import MissingArgumentError, UnusedCliTokensError

from calcarine import __version__
from calcarine.commands.cite import cite
from calcarine.commands.classify import classify
from calcarine.commands.colour_match import colour_match
from calcarine.commands.detect import detect
from calcarine.commands.doctor import doctor
from calcarine.commands.eigendistortion import eigendistortion
from calcarine.commands.events import events
from calcarine.commands.mad import mad
from calcarine.commands.map import map_
from calcarine.commands.metamer import metamer
from calcarine.commands.recipes import recipes
from calcarine.commands.report import report
from calcarine.commands.retina import retina
from calcarine.commands.see import see
from calcarine.commands.shared import known_runs
from calcarine.commands.spectrum import spectrum
from calcarine.commands.train import train
from calcarine.errors import CalcarineError, CalcarineWarning, InputError

__all__ = ["app", "main"]

_HELP = """A laboratory for biological vision: build a visual system, let it learn, probe it.

```
calcarine retina                       # what an eye tells the brain
calcarine train color-sandbox          # a cortex learns to see colour
calcarine colour-match runs/color-sandbox
calcarine train gcal-orientation       # a map of orientations grows
calcarine map runs/gcal-orientation
calcarine detect sample:moving-disks   # how fast things move, told by spikes
calcarine report runs/color-sandbox
```

Each command explains itself: `calcarine train --help`. With `--debug`, or `CALCARINE_DEBUG=1` in
the environment, an error shows where it came from.
"""

app = App(
    name="calcarine",
    help=_HELP,
    version=__version__,
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)
_VERBS: dict[str, Callable[..., Any]] = {
    "train": train,
    "recipes": recipes,
    "retina": retina,
    "see": see,
    "colour-match": colour_match,
    "map": map_,
    "events": events,
    "detect": detect,
    "classify": classify,
    "spectrum": spectrum,
    "metamer": metamer,
    "eigendistortion": eigendistortion,
    "mad": mad,
    "report": report,
    "cite": cite,
    "doctor": doctor,
}
for _order, (_name, _verb) in enumerate(_VERBS.items()):
    app.command(_verb, name=_name, sort_key=_order)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``calcarine``; those of the process when left out.

    Returns:
        The exit code.
    """
    words, debug = _without_debug(list(sys.argv[1:] if argv is None else argv))
    with _plain_warnings():
        try:
            code = _call(words)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of a pipe, such as head, has gone. Without this, Python complains at exit.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except KeyboardInterrupt:
            print("\nAborted.", file=sys.stderr)
            return 130
        except Exception as error:
            if debug:
                traceback.print_exc()
            print(f"error: {_explain(error)}", file=sys.stderr)
            return 2 if isinstance(error, (InputError, CycloptsError)) else 1
    return code


def _call(words: list[str]) -> int:
    result: Any = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    return result if isinstance(result, int) else 0


def _without_debug(words: list[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out, wherever it stands in front of a ``--``."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    asked = len(kept) < end or os.environ.get("CALCARINE_DEBUG", "0") not in ("", "0")
    return kept + words[end:], asked


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print our warnings as one line, without the place in the code they came from."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, CalcarineWarning):
                print(f"warning: {message}", file=sys.stderr)
            else:
                usual(message, category, *place)

        warnings.simplefilter("always", CalcarineWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _explain(error: Exception) -> str:
    if isinstance(error, CalcarineError):
        return str(error)
    if isinstance(error, CycloptsError):
        return _explain_usage(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}"
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first} (repeat with --debug to see where)"


def _explain_usage(error: CycloptsError) -> str:
    """Say what is wrong with the words typed, and where to look."""
    if isinstance(error, UnusedCliTokensError):
        text = f"Unexpected: {' '.join(error.unused_tokens or ())}."
    else:
        text = str(error)
    if isinstance(error, MissingArgumentError) and "run" in text.lower():
        text = f"{text} {known_runs()}"
    verb = next((word for word in error.command_chain or () if word in _VERBS), "")
    return f"{text} See: calcarine {verb}{' ' if verb else ''}--help"
