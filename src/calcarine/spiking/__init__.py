"""Spiking neurons: leaky integrators, integrate-and-fire families, surrogate gradients."""

from calcarine.spiking.adaptive_lif import (
    AdaptiveLIF,
    AdaptiveLIFState,
)
from calcarine.spiking.adex import (
    AdEx,
    AdExState,
)
from calcarine.spiking.decoders import (
    firing_rate_hz,
    first_spike_ms,
    population_value,
)
from calcarine.spiking.elementwise import (
    Scale,
    Threshold,
)
from calcarine.spiking.encoders import (
    PopulationCode,
    latency_spikes,
    lif_latency_ms,
    linear_latency_ms,
    poisson_spikes,
)
from calcarine.spiking.exchange import (
    export_nir,
    import_nir,
)
from calcarine.spiking.iaf import (
    IAF,
    IAFState,
)
from calcarine.spiking.izhikevich import (
    Izhikevich,
    IzhikevichState,
)
from calcarine.spiking.izhikevich_patterns import (
    IZHIKEVICH_PATTERNS,
    IzhikevichPattern,
)
from calcarine.spiking.leaky_integrator import (
    LeakyIntegrator,
    LeakyIntegratorBox,
    LeakyIntegratorBoxState,
    LeakyIntegratorState,
)
from calcarine.spiking.lif import (
    LIF,
    LIFState,
)
from calcarine.spiking.lif_box import (
    LIFBox,
    LIFBoxState,
)
from calcarine.spiking.membrane import (
    Refractory,
    reset_potential,
)
from calcarine.spiking.recurrent import (
    Recurrent,
    RecurrentState,
)
from calcarine.spiking.stdp import (
    PairSTDP,
    PairTraces,
    TripletSTDP,
    TripletTraces,
)
from calcarine.spiking.surrogate import (
    spike,
    surrogate_slope,
)

__all__ = [
    "IAF",
    "IZHIKEVICH_PATTERNS",
    "LIF",
    "AdEx",
    "AdExState",
    "AdaptiveLIF",
    "AdaptiveLIFState",
    "IAFState",
    "Izhikevich",
    "IzhikevichPattern",
    "IzhikevichState",
    "LIFBox",
    "LIFBoxState",
    "LIFState",
    "LeakyIntegrator",
    "LeakyIntegratorBox",
    "LeakyIntegratorBoxState",
    "LeakyIntegratorState",
    "PairSTDP",
    "PairTraces",
    "PopulationCode",
    "Recurrent",
    "RecurrentState",
    "Refractory",
    "Scale",
    "Threshold",
    "TripletSTDP",
    "TripletTraces",
    "export_nir",
    "firing_rate_hz",
    "first_spike_ms",
    "import_nir",
    "latency_spikes",
    "lif_latency_ms",
    "linear_latency_ms",
    "poisson_spikes",
    "population_value",
    "reset_potential",
    "spike",
    "surrogate_slope",
]
