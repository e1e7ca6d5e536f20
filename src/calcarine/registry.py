"""Name -> class: what recipes, the command line and the conformance suite can build.

Classes are named by where they live and imported when asked for, so reading this table costs
nothing. A new stage is one file, its test and one line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from calcarine.errors import InputError, UnknownNameError

__all__ = ["Entry", "get", "names", "register", "registered_name"]

Kind = Literal["stage", "stimulus", "model", "task", "settings"]


@dataclass(frozen=True)
class Entry:
    """Where a class lives and how the conformance suite tries it.

    Args:
        target: ``"package.module:Class"``.
        kind: What it is.
        example: Shape of an input to try it with (one frame for a stage with memory).
        settings: Constructor arguments for that try.
        skip: Conformance checks that do not apply, each with its reason.
    """

    target: str
    kind: Kind = "stage"
    example: tuple[int, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    skip: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> type:
        """Import and return the class."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


_SPIKES = {"gradient": "spikes are steps: their gradient is zero almost everywhere"}

_entries: dict[str, Entry] = {
    "digits_data": Entry("calcarine.stimuli.digits_data:DigitsData", "stimulus"),
    "image_patches": Entry("calcarine.stimuli.patches:ImagePatches", "stimulus"),
    "named_data": Entry("calcarine.stimuli.named_data:NamedData", "stimulus"),
    "bars": Entry("calcarine.stimuli.shapes:Bars", "stimulus"),
    "natural_patches": Entry("calcarine.stimuli.natural:NaturalPatches", "stimulus"),
    "oriented_gaussians": Entry("calcarine.stimuli.patterns:OrientedGaussians", "stimulus"),
    "hyperspectral_scenes": Entry(
        "calcarine.stimuli.hyperspectral:HyperspectralScenes", "stimulus"
    ),
    "rgb_spectra": Entry("calcarine.stimuli.rgb_spectra:RgbSpectra", "stimulus"),
    "spectral_leaves": Entry("calcarine.stimuli.spectral_leaves:SpectralLeaves", "stimulus"),
    "random_gratings": Entry("calcarine.stimuli.patterns:RandomGratings", "stimulus"),
    "three_dot_faces": Entry("calcarine.stimuli.shapes:ThreeDotFaces", "stimulus"),
    "training": Entry("calcarine.training.settings:TrainingSettings", "settings"),
    "color_vision": Entry("calcarine.models.kotani2024:ColorVision", "model"),
    "retina": Entry("calcarine.retina.retina:Retina", "model"),
    "disk_velocity_task": Entry("calcarine.training.disk_velocity:DiskVelocityTask", "task"),
    "map_task": Entry("calcarine.training.map_task:MapTask", "task"),
    "texture_task": Entry("calcarine.training.texture:TextureTask", "task"),
    "color_vision_task": Entry("calcarine.training.color_vision:ColorVisionTask", "task"),
    "center_surround": Entry(
        "calcarine.lgn.center_surround:CenterSurround",
        example=(2, 1, 12, 10),
        settings={"kernel_size": 7, "on_center": (True, False)},
    ),
    "cone_activation": Entry(
        "calcarine.retina.activation:ConeActivation",
        example=(2, 3, 12, 10),
        settings={"size": (12, 10)},
    ),
    "cordsnet": Entry(
        "calcarine.models.soo2024:CordsNet",
        example=(2, 2, 19, 14),
        settings={"depth": 2, "classes": 5, "channels": 2, "image_size": (19, 14)},
    ),
    "cordsnet_twin": Entry(
        "calcarine.models.cordsnet_twin:CordsNetTwin",
        example=(2, 2, 19, 14),
        settings={"depth": 4, "classes": 5, "channels": 2, "image_size": (19, 14)},
    ),
    "recurrent_area": Entry(
        "calcarine.cortex.recurrent_area:RecurrentArea",
        example=(2, 3, 11, 8),
        settings={"in_channels": 3, "channels": 4, "size": (6, 4), "stride": 2},
    ),
    "demosaicing": Entry(
        "calcarine.cortex.demosaicing:Demosaicing",
        example=(2, 8, 12, 9),
        settings={"widths": (4, 8)},
    ),
    "foveal_sampling": Entry(
        "calcarine.retina.sampling:FovealSampling", example=(2, 3, 32, 32), settings={"size": 16}
    ),
    "gaussian": Entry(
        "calcarine.lgn.gaussian:Gaussian", example=(2, 3, 12, 10), settings={"kernel_size": 7}
    ),
    "lateral_inhibition": Entry(
        "calcarine.retina.inhibition:LateralInhibition", example=(2, 1, 12, 10)
    ),
    "linear_nonlinear": Entry(
        "calcarine.lgn.linear_nonlinear:LinearNonlinear",
        example=(2, 1, 18, 17),
        settings={"kernel_size": 31, "pretrained": True},
    ),
    "luminance_contrast_gain_control": Entry(
        "calcarine.lgn.contrast_gain:LuminanceContrastGainControl",
        example=(2, 1, 12, 10),
        settings={"kernel_size": 7},
    ),
    "luminance_gain_control": Entry(
        "calcarine.lgn.luminance_gain:LuminanceGainControl",
        example=(2, 3, 12, 10),
        settings={"kernel_size": (7, 6)},
    ),
    "gcal": Entry(
        "calcarine.models.stevens2013:Gcal",
        example=(2, 1, 22, 20),
        settings={"cortex_density": 9, "lgn_density": 6, "area": (1.4, 1.0), "settling": 4},
    ),
    "learned_inhibition": Entry(
        "calcarine.cortex.lateral_inhibition:LearnedInhibition",
        example=(2, 1, 12, 10),
        settings={"kernel_size": 5, "border_rounds": 1},
    ),
    "lissom": Entry(
        "calcarine.models.miikkulainen2005:Lissom",
        example=(2, 1, 12, 10),
        settings={"retina_shape": (12, 10), "lgn_shape": (12, 10), "cortex_shape": (15, 13)},
    ),
    "local_connection": Entry(
        "calcarine.v1.local_connection:LocalConnection",
        example=(2, 1, 12, 10),
        settings={"source": (12, 10), "target": (7, 9), "radius": 3.2, "sigma": 2.0},
    ),
    "neural_scope": Entry("calcarine.probes.neural_scope:NeuralScope", example=(2, 8, 6, 5)),
    "on_off": Entry(
        "calcarine.lgn.on_off:OnOff",
        example=(2, 1, 12, 10),
        settings={"kernel_size": 7, "apply_mask": True},
    ),
    "disk_velocity_net": Entry(
        "calcarine.models.disk_velocity:DiskVelocityNet", example=(2, 1, 24, 21), skip=_SPIKES
    ),
    "complex_cells": Entry(
        "calcarine.v1.cells:ComplexCells",
        example=(2, 1, 16, 15),
        settings={"image_shape": (16, 15), "normalize": True, "root": True},
    ),
    "simple_cells": Entry(
        "calcarine.v1.cells:SimpleCells",
        example=(2, 1, 16, 15),
        settings={"image_shape": (16, 15)},
    ),
    "spiking_classifier": Entry(
        "calcarine.models.spiking_classifier:SpikingClassifier",
        example=(3, 1, 7, 5),
        settings={"size": (7, 5), "hidden": 12, "classes": 4, "steps": 12},
        skip=_SPIKES,
    ),
    "cordsnet_task": Entry("calcarine.training.cordsnet_task:CordsNetTask", "task"),
    "spiking_digits_task": Entry("calcarine.training.spiking_digits:SpikingDigitsTask", "task"),
    "steerable_pyramid": Entry("calcarine.v1.steerable_pyramid:SteerablePyramid", "model"),
    "portilla_simoncelli": Entry(
        "calcarine.models.portilla2000:PortillaSimoncelli",
        example=(2, 1, 32, 25),
        settings={"image_shape": (32, 25), "n_scales": 2, "spatial_corr_width": 5},
    ),
    "adaptive_lif": Entry(
        "calcarine.spiking.adaptive_lif:AdaptiveLIF",
        example=(2, 3, 4),
        settings={"refractory_ms": 2.0, "learnable": ("tau_adapt_ms", "beta")},
        skip=_SPIKES,
    ),
    "adex": Entry(
        "calcarine.spiking.adex:AdEx",
        example=(2, 3, 4),
        settings={"tau_mem_ms": 2.0, "learnable": True},
        skip=_SPIKES,
    ),
    "iaf": Entry(
        "calcarine.spiking.iaf:IAF",
        example=(2, 3, 4),
        settings={"tau_mem_ms": 2.0, "reset": "subtract"},
        skip=_SPIKES,
    ),
    "izhikevich": Entry("calcarine.spiking.izhikevich:Izhikevich", example=(2, 3, 4), skip=_SPIKES),
    "leaky_integrator": Entry(
        "calcarine.spiking.leaky_integrator:LeakyIntegrator",
        example=(2, 3, 4),
        settings={"tau_mem_ms": [5.0, 10.0, 20.0], "learnable": ("tau_syn_ms",)},
    ),
    "leaky_integrator_box": Entry(
        "calcarine.spiking.leaky_integrator:LeakyIntegratorBox", example=(2, 3, 4)
    ),
    "lif": Entry(
        "calcarine.spiking.lif:LIF",
        example=(2, 3, 4),
        settings={"tau_mem_ms": 2.0, "refractory_ms": 2.0},
        skip=_SPIKES,
    ),
    "lif_box": Entry(
        "calcarine.spiking.lif_box:LIFBox",
        example=(2, 3, 4),
        settings={"tau_mem_ms": 2.0, "v_th": [0.2, 0.4, 0.6], "learnable": ("tau_mem_ms",)},
        skip=_SPIKES,
    ),
    "retinal_spikes": Entry(
        "calcarine.retina.spikes:RetinalSpikes", example=(3, 1, 6, 5), skip=_SPIKES
    ),
    "pair_stdp": Entry("calcarine.spiking.stdp:PairSTDP", "settings"),
    "population_code": Entry("calcarine.spiking.encoders:PopulationCode", example=(2, 3, 5)),
    "scale": Entry(
        "calcarine.spiking.elementwise:Scale",
        example=(2, 3, 6, 5),
        settings={"factor": [0.5, 1.0, 2.0]},
    ),
    "threshold": Entry(
        "calcarine.spiking.elementwise:Threshold",
        example=(2, 3, 6, 5),
        settings={"threshold": 0.5},
        skip=_SPIKES,
    ),
    "triplet_stdp": Entry("calcarine.spiking.stdp:TripletSTDP", "settings"),
    "uniform_sampling": Entry(
        "calcarine.retina.sampling:UniformSampling", example=(2, 3, 12, 12), settings={"size": 12}
    ),
}


def names(kind: Kind | None = None) -> list[str]:
    """Return the registered names, of one kind or all."""
    return sorted(name for name, entry in _entries.items() if kind in (None, entry.kind))


def entry(name: str) -> Entry:
    """Return the entry behind a name.

    Raises:
        UnknownNameError: With the closest known name.
    """
    if name not in _entries:
        raise UnknownNameError("registered class", name, _entries)
    return _entries[name]


def get(name: str) -> type:
    """Return the class behind a name.

    Raises:
        UnknownNameError: With the closest known name.
    """
    return entry(name).load()


def registered_name(cls: type) -> str | None:
    """Return the name a class is registered under, or ``None``."""
    for name, candidate in _entries.items():
        module, _, attribute = candidate.target.partition(":")
        if attribute == cls.__name__ and module == cls.__module__:
            return name
    return None


def register(name: str, target: str | type, **details: Any) -> None:
    """Add a class of your own, so that recipes can name it.

    Args:
        name: Name for recipes, lower case with underscores.
        target: The class, or ``"package.module:Class"``.
        **details: Further fields of :class:`Entry`.

    Raises:
        InputError: If the name is taken by another class.
    """
    path = target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"
    if name in _entries and _entries[name].target != path:
        raise InputError(f"{name!r} already names {_entries[name].target}. Choose another name.")
    _entries[name] = Entry(path, **details)
