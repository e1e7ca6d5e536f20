"""``calcarine report``: one self-contained web page about a run."""

from __future__ import annotations

from pathlib import Path

from calcarine.commands.shared import check_run, note

__all__ = ["report"]


def report(run: Path, /, *, out: Path | None = None, quiet: bool = False) -> None:
    """Write one self-contained web page about a run.

    What is measured for it is kept in the run's folder, so a second report is quick.

    ```
    calcarine report runs/color-sandbox
    calcarine report runs/color-sandbox --out page.html
    ```

    Args:
        run: Folder of the run.
        out: File to write; by default report.html inside the run.
        quiet: Print nothing but the path of the page.
    """
    check_run(run)

    from calcarine.report import write_report

    print(write_report(run, out, progress=None if quiet else note))
