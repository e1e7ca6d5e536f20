from __future__ import annotations

import io

import pytest

from calcarine.progress import (
    BarProgress,
    LineProgress,
    SilentProgress,
    open_progress,
)

SCALARS = {"learning_rate": 9.8e-4, "loss/cortex": 12.345, "grad_norm/cortex": 3.0, "skipped": 2.0}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_there_is_a_line_with_everything():
    stream = io.StringIO()
    progress = open_progress(100, 10, stream=stream)
    assert isinstance(progress, LineProgress)
    progress.values(SCALARS)
    for done in range(11, 61):
        progress.advance(done)
    progress.close()
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("update 60/100  loss  cortex 12.35  rate 9.80e-04  skipped 2  ")
    assert "/s  remaining 0:00:" in line


def test_lines_come_by_the_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("calcarine.progress.time.perf_counter", lambda: now[0])
    stream = io.StringIO()
    progress = LineProgress(1000, 0, stream, every_s=10.0)
    for done in range(1, 251):
        now[0] += 0.125
        progress.advance(done)
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["80/1000", "160/1000", "240/1000"]
    assert lines[0].endswith("8.0/s  remaining 0:01:55")


@pytest.mark.parametrize("done", [30, 100])
def test_on_a_terminal_there_is_a_bar(done):
    stream = Terminal()
    progress = open_progress(100, 0, stream=stream)
    assert isinstance(progress, BarProgress)
    progress.values(SCALARS)
    progress.advance(done)
    progress.note("a [message]")
    progress.close()
    text = stream.getvalue()
    assert f"{done}/100" in text.replace(" ", "")
    assert "a [message]" in text
    assert "12.35" in text


def test_silence_is_silent(capfd):
    progress = open_progress(10, 0, shown=False)
    assert isinstance(progress, SilentProgress)
    progress.advance(1)
    progress.values(SCALARS)
    progress.note("nothing")
    progress.close()
    assert capfd.readouterr() == ("", "")
