"""Reports: one self-contained HTML page for any run.

builder        Report, a page made of sections with text, tables, figures and animations
results        color_matching_over_time, measured once and kept in the run's folder
color_vision   percepts, what a trained colour cortex sees of a picture; other_eye
cortex_readouts readouts_over_time, what a colour cortex knows of its eye, against the truth
unwarped_section  unwarped, the percept as the cortex lays it out in the visual field
write          write_report, the page of a run
probe_pages    probe_page, the page of a metamer, of eigendistortions, or of a MAD competition
"""

from __future__ import annotations

from calcarine.report.builder import Report
from calcarine.report.color_vision import other_eye, percepts, see
from calcarine.report.cortex_readouts import CortexReadouts, cortex_readouts, readouts_over_time
from calcarine.report.probe_pages import probe_page
from calcarine.report.results import color_matching_over_time
from calcarine.report.unwarped_section import Unwarped, unwarped
from calcarine.report.write import write_report

__all__ = [
    "CortexReadouts",
    "Report",
    "Unwarped",
    "color_matching_over_time",
    "cortex_readouts",
    "other_eye",
    "percepts",
    "probe_page",
    "readouts_over_time",
    "see",
    "unwarped",
    "write_report",
]
