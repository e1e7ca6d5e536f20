"""Published firing patterns of the simple model of Izhikevich, as constants.

    name  ->  a, b, c, d, slope, offset, and the constant drive under which it was shown

The first seven are the cell types of izhikevich2003, Figure 2; the others are the features of
izhikevich2004, Figure 1, with the numbers of the code that drew it. Both figures were drawn in
single Euler steps of 0.1 to 0.5 ms, mostly 0.25 ms: ``Izhikevich.preset(name, dt_ms=0.25,
substeps=1)``. Where a figure drives a cell by pulses or ramps, ``drive`` is the level outside them.
The two induced by inhibition have no rest without their drive and start at -63.8 mV with u = b v;
they answer to a drive of 75. The figure's resonator is called ``subthreshold_resonance`` here. Left
out is its accommodation, whose recovery follows another equation.

Source  izhikevich2003, izhikevich2004
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["IZHIKEVICH_PATTERNS", "IzhikevichPattern"]


class IzhikevichPattern(NamedTuple):
    """Constants of one firing pattern.

    Args:
        a: Rate of the recovery, 1 / ms.
        b: Sensitivity of the recovery to the potential.
        c: Potential after a spike, mV.
        d: Jump of the recovery at a spike, mV.
        drive: Constant input of the published example, mV / ms.
        slope: Linear coefficient of the potential, 1 / ms.
        offset: Constant coefficient of the potential, mV / ms.
    """

    a: float
    b: float
    c: float
    d: float
    drive: float
    slope: float = 5.0
    offset: float = 140.0

    def constants(self) -> dict[str, float]:
        """Return what the constructor of the neuron takes: everything but the drive."""
        return {name: value for name, value in self._asdict().items() if name != "drive"}


_Pattern = IzhikevichPattern

IZHIKEVICH_PATTERNS: Mapping[str, IzhikevichPattern] = MappingProxyType(
    {
        "regular_spiking": _Pattern(0.02, 0.2, -65.0, 8.0, 14.0),
        "intrinsically_bursting": _Pattern(0.02, 0.2, -55.0, 4.0, 11.0),
        "chattering": _Pattern(0.02, 0.2, -50.0, 2.0, 10.0),
        "fast_spiking": _Pattern(0.1, 0.2, -65.0, 2.0, 10.0),
        "low_threshold_spiking": _Pattern(0.02, 0.25, -65.0, 2.0, 10.0),
        "thalamo_cortical": _Pattern(0.02, 0.25, -65.0, 0.05, 1.5),
        "resonator": _Pattern(0.1, 0.26, -65.0, 2.0, -0.5),
        "tonic_spiking": _Pattern(0.02, 0.2, -65.0, 6.0, 14.0),
        "phasic_spiking": _Pattern(0.02, 0.25, -65.0, 6.0, 0.5),
        "tonic_bursting": _Pattern(0.02, 0.2, -50.0, 2.0, 15.0),
        "phasic_bursting": _Pattern(0.02, 0.25, -55.0, 0.05, 0.6),
        "mixed_mode": _Pattern(0.02, 0.2, -55.0, 4.0, 10.0),
        "spike_frequency_adaptation": _Pattern(0.01, 0.2, -65.0, 8.0, 30.0),
        "class_1": _Pattern(0.02, -0.1, -55.0, 6.0, 0.0, 4.1, 108.0),
        "class_2": _Pattern(0.2, 0.26, -65.0, 0.0, -0.5),
        "spike_latency": _Pattern(0.02, 0.2, -65.0, 6.0, 0.0),
        "subthreshold_oscillations": _Pattern(0.05, 0.26, -60.0, 0.0, 0.0),
        "subthreshold_resonance": _Pattern(0.1, 0.26, -60.0, -1.0, 0.0),
        "integrator": _Pattern(0.02, -0.1, -55.0, 6.0, 0.0, 4.1, 108.0),
        "rebound_spike": _Pattern(0.03, 0.25, -60.0, 4.0, 0.0),
        "rebound_burst": _Pattern(0.03, 0.25, -52.0, 0.0, 0.0),
        "threshold_variability": _Pattern(0.03, 0.25, -60.0, 4.0, 0.0),
        "bistability": _Pattern(0.1, 0.26, -60.0, 0.0, 0.24),
        "depolarizing_after_potential": _Pattern(1.0, 0.2, -60.0, -21.0, 0.0),
        "inhibition_induced_spiking": _Pattern(-0.02, -1.0, -60.0, 8.0, 80.0),
        "inhibition_induced_bursting": _Pattern(-0.026, -1.0, -45.0, -2.0, 80.0),
    }
)
"""Constants by the name of the pattern."""
