"""``colour-match`` and ``report``: numbers and a page about a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calcarine import report as report_room


def blocks(out: str) -> list[list[str]]:
    """Return the lines of every age, the closing ones apart."""
    found: list[list[str]] = []
    for line in out.splitlines():
        if line.startswith("Residual of the best match"):
            found.append([])
        if found:
            found[-1].append(line)
    return found


def test_tables_and_verdicts_are_the_numbers_that_were_kept(matched):
    folder, done = matched
    assert done.code == 0
    kept = json.loads((folder / "results" / "color_matching.json").read_text())["ages"]
    assert list(kept) == ["0", "4", "6"]
    assert "matching colours" in done.err
    for lines, (age, entry) in zip(blocks(done.out), kept.items(), strict=True):
        assert lines[0].split()[-2:] == [age, "updates"]
        outcome = entry["outcome"]
        rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
        assert [int(row[0]) for row in rows] == [*range(1, len(outcome["mean_residual"]) + 1)]
        check_rows(rows, outcome)
        assert any(line.startswith("singular values of all percepts: 1 ") for line in lines)
        n = outcome["dimension"]
        assert f"after {age}: colour has {n} dimension{'s' if n > 1 else ''}" in lines
    assert kept["0"]["outcome"]["dimension"] == 1  # an untrained cortex sees one dimension


def check_rows(rows: list[list[str]], outcome: dict) -> None:
    for index, row in enumerate(rows):
        mean, observer = outcome["mean_residual"][index], outcome["observer_residual"][index]
        assert row[1:4] == [
            f"{mean:.4f}",
            f"{outcome['max_residual'][index]:.4f}",
            f"{observer:.4f}",
        ]
        if observer > 1e-6:
            assert float(row[4]) == pytest.approx(mean / observer, abs=0.006)
        else:
            assert row[4] == "-"
        assert row[5:] == [f"{nm:g}" for nm in outcome["primaries_nm"][index]]


def test_figures_and_files_are_where_they_are_said_to_be(matched):
    folder, done = matched
    written = done.out.splitlines()[-1].removeprefix("Wrote ").split(", ")
    assert [Path(path).name for path in written] == [
        "color_matching.json",
        "color_matching.png",
        "color_matching_over_time.png",
    ]
    for path in map(Path, written):
        assert path.parent == folder / "results"
        assert path.stat().st_size > 1000


def test_one_age_is_read_again_without_measuring(calcarine, measured):
    done = calcarine("colour-match", measured, "--json", "out/match.json")
    assert (done.code, done.err) == (0, "")
    data = json.loads(Path("out/match.json").read_text())
    assert list(data) == ["6"]
    n = data["6"]["dimension"]
    assert f"colour has {n} dimension{'s' if n > 1 else ''}" in done.out.splitlines()
    assert done.out.splitlines()[-1].endswith("color_matching.png, out/match.json")


def test_quiet_prints_the_verdict_only(calcarine, measured):
    done = calcarine("colour-match", measured, "--ages", "0", "--quiet")
    assert (done.code, done.out, done.err) == (0, "colour has 1 dimension\n", "")
    many = calcarine("colour-match", measured, "--ages", "final,0", "--quiet").out.splitlines()
    assert [line.partition(":")[0] for line in many] == ["after 0", "after 6"]


def test_force_measures_again(calcarine, measured):
    done = calcarine("colour-match", measured, "--ages", "0", "--force", "--quiet")
    assert done.code == 0
    kept = json.loads((measured / "results" / "color_matching.json").read_text())["ages"]
    assert len(kept["0"]["outcome"]["mean_residual"]) == 5  # 4 in the course of all ages


def test_report_writes_one_page(calcarine, measured):
    done = calcarine("report", measured)
    assert (done.code, done.out) == (0, "runs/tiny/report.html\n")
    text = (measured / "report.html").read_text()
    assert text.lower().startswith("<!doctype html>")
    assert "color-sandbox" in text


@pytest.mark.parametrize(("words", "path"), [((), None), (("--out", "page.html"), "page.html")])
def test_report_writes_where_it_is_told(calcarine, run, monkeypatch, words, path):
    calls = []

    def write_report(folder, target, progress):
        calls.append((folder, target))
        if progress is not None:
            progress("drawing")
        return Path("somewhere.html")

    monkeypatch.setattr(report_room, "write_report", write_report)
    done = calcarine("report", run, *words)
    assert (done.code, done.out, done.err) == (0, "somewhere.html\n", "drawing\n")
    assert calcarine("report", run, *words, "--quiet").err == ""
    assert calls == [(run, None if path is None else Path(path))] * 2


def test_a_page_needs_its_suffix(calcarine, run):
    assert ".html" in calcarine("report", run, "--out", "page.txt").error
