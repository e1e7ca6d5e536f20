"""Reports: one self-contained HTML page for any run.

builder        Report, a page made of sections with text, tables, figures and animations
results        color_matching_over_time, measured once and kept in the run's folder
color_vision   percepts, what a trained colour cortex sees of a picture
write          write_report, the page of a run
probe_pages    probe_page, the page of a metamer, of eigendistortions, or of a MAD competition
"""

from __future__ import annotations

from calcarine.report.builder import Report
from calcarine.report.color_vision import percepts, see
from calcarine.report.probe_pages import probe_page
from calcarine.report.results import color_matching_over_time
from calcarine.report.write import write_report

__all__ = ["Report", "color_matching_over_time", "percepts", "probe_page", "see", "write_report"]
