"""The YAML configuration published with the colour model, translated into a recipe.

    Experiment              name, size, fixations                -> name, retina, cortex
    RetinaModel             sampling, pigments, inhibition, ...  -> retina
    Dataset                 which pictures, how many at once     -> stimuli, batch_size
    DimensionalityBoosting  learning on from another run         not part of this version
    Training                rate, length, logs                   -> training, at a constant rate
    CorticalModel           which parts learn                    -> cortex, the sandbox variant

Everything that cannot be translated is named at once: unknown keys, impossible values, and what is
valid there but not part of this version.

Source  kotani2024 (the format is that of its public code)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from calcarine import recipe
from calcarine.errors import InputError
from calcarine.retina import Retina, cone_mosaic

__all__ = ["Translation", "is_published", "translate"]

_Cone: TypeAlias = Literal["L", "M", "S", "Q"]

PEAKS_NM: dict[_Cone, float] = {"L": 560.0, "M": 530.0, "S": 419.0, "Q": 545.0}  # kotani2024

_LAYOUTS = {
    "TwoFoveas": "two_foveas",
    "HorizontalStreak": "horizontal_streak",
    "Uniform": "uniform",
}
_LOGGERS = {
    "Local": ["local"],
    "Tensorboard": ["local", "tensorboard"],
    "Comet": ["local", "comet"],
}


class Translation(NamedTuple):
    """A published configuration as a recipe.

    Attributes:
        recipe: Plain data for :func:`calcarine.recipe.load`.
        notes: Where the run will differ from the published one, by the recipe's key.
    """

    recipe: dict[str, Any]
    notes: dict[str, str]


def is_published(data: Mapping[str, Any]) -> bool:
    """Tell whether a file is in the published format rather than a recipe."""
    return not {"Experiment", "RetinaModel", "CorticalModel"}.isdisjoint(data)


def translate(data: Mapping[str, Any], *, label: str = "configuration") -> Translation:
    """Translate a published configuration.

    Args:
        data: The file's content.
        label: What to call it in a message.

    Raises:
        RecipeError: With every key that is unknown, impossible or not supported, by path.
    """
    given = recipe.validate(_Configuration, data, label)
    assert isinstance(given, _Configuration)
    retina = _retina(given)
    scene = Retina(**retina).scene_size
    size = given.Experiment.simulation_size
    translated = {
        "format": recipe.FORMAT,
        "task": "color_vision_task",
        "name": re.sub(r"[^\w.-]+", "-", given.Experiment.name),
        "description": f"Translated from the published configuration {given.Experiment.name!r}.",
        "seed": 0,
        "stimuli": {"source": "samples", "size": scene},
        "retina": retina,
        "cortex": {"size": size, "latent": given.CorticalModel.latent_dim, "widths": [16, 32, 64]},
        "batch_size": given.Dataset.batch_size,
        "illuminant_spread": 0.0,
        "training": _training(given.Training),
    }
    return Translation(translated, _notes(given))


def _retina(given: _Configuration) -> dict[str, Any]:
    experiment, model = given.Experiment, given.RetinaModel
    own = model.retina_spectral_sampling.cone_fundamentals or {}
    peaks = [own.get(cone, peak) for cone, peak in PEAKS_NM.items()]
    spatial = model.retina_spatial_sampling
    section: dict[str, Any] = {
        "size": experiment.simulation_size,
        "mosaic": model.retina_spectral_sampling.cone_types,
        "peaks_nm": peaks if experiment.simulating_tetra else peaks[:3],
        "sampling": "uniform" if spatial.type == "Identity" else "fovea",
        "inhibition": model.retina_lateral_inhibition.type == "Default",
        "max_shift_px": model.max_shift_size,
        "frames": experiment.timesteps_per_image,
    }
    if spatial.cone_position_distribution_type is not None:
        section["layout"] = _LAYOUTS[spatial.cone_position_distribution_type]
    return section


def _training(given: _Training) -> dict[str, Any]:
    return {
        "updates": given.max_gradient_updates,
        "learning_rate": given.learning_rate,
        "schedule": "constant",
        "warmup_updates": 0,
        "log_every": given.logging_cycle,
        "loggers": _LOGGERS[given.logging_mode] if given.learning_progress_logging else [],
    }


def _notes(given: _Configuration) -> dict[str, str]:
    notes = {
        "stimuli.source": f"the data set {given.Dataset.dataset_name} does not come with "
        "calcarine; learning from sample photographs instead. For other pictures set "
        "stimuli.source to a folder, or to hf:NAME."
    }
    if given.Experiment.simulating_tetra:
        notes["stimuli.source"] += (
            " Photographs have three channels, so they cannot teach a fourth dimension of colour."
        )
    if given.RetinaModel.retina_spatial_sampling.type != "Identity":
        notes["retina.sampling"] = (
            "the sandbox cortex takes cones for a regular lattice; behind a retina with another "
            "spacing its predictions go astray. Set retina.sampling=uniform to avoid that."
        )
    return notes


def _unsupported(value: Any, advice: str) -> PydanticCustomError:
    return PydanticCustomError(
        "unsupported", "{value} is not part of this version of calcarine; {advice}",
        {"value": repr(value), "advice": advice},
    )  # fmt: skip


def _only(supported: str, advice: str = "") -> AfterValidator:
    """Accept one of the published values; name the others as not supported."""

    def check(value: str) -> str:
        if value != supported:
            raise _unsupported(value, advice or f"use {supported!r}, the sandbox variant")
        return value

    return AfterValidator(check)


def _mosaic_exists(value: str) -> str:
    try:
        cone_mosaic(value, 8)
    except InputError as error:
        raise PydanticCustomError("mosaic", "{reason}", {"reason": str(error)}) from error
    return value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Experiment(_Section):
    name: Annotated[str, Field(min_length=1)]
    simulation_size: Annotated[int, Field(ge=8)]
    timesteps_per_image: Annotated[int, Field(ge=2)] = 2
    simulating_tetra: bool = False


class _SpatialSampling(_Section):
    type: Literal["Identity", "Default", "CustomConePositions"]
    cone_position_distribution_type: Literal["TwoFoveas", "HorizontalStreak", "Uniform"] | None = (
        None
    )

    @model_validator(mode="after")
    def _distribution_for_custom_positions(self) -> _SpatialSampling:
        custom = self.type == "CustomConePositions"
        if custom != (self.cone_position_distribution_type is not None):
            raise PydanticCustomError(
                "distribution",
                "expected cone_position_distribution_type together with the type "
                "CustomConePositions, and only then",
            )
        return self


class _SpectralSampling(_Section):
    type: Literal["Default", "Custom_Cone_Fundamentals"]
    cone_types: Annotated[str, AfterValidator(_mosaic_exists)]
    cone_fundamentals: dict[_Cone, Annotated[float, Field(ge=400, le=700)]] | None = None


class _Inhibition(_Section):
    type: Literal["Identity", "Default"]


class _EyeMotion(_Section):
    type: Literal["Default"]


class _Spikes(_Section):
    type: Annotated[
        Literal["Default", "LeakyIntegrateAndFire"],
        _only("Default", "the cortex learns from graded signals, 'Default'"),
    ] = "Default"


class _Retina(_Section):
    retina_spatial_sampling: _SpatialSampling
    retina_spectral_sampling: _SpectralSampling
    retina_lateral_inhibition: _Inhibition
    retina_eye_motion: _EyeMotion
    retina_spike_conversion: _Spikes = _Spikes()
    max_shift_size: Annotated[int, Field(ge=0)]


class _Dataset(_Section):
    dataset_name: Literal["ImageNet64x64", "NTIRE", "HueSphere", "FullColors"] = "ImageNet64x64"
    batch_size: Annotated[int, Field(ge=1)] = 8


def _no_boosting(value: bool) -> bool:
    if value:
        raise _unsupported(value, "set it to false to learn from the beginning")
    return value


class _Boosting(_Section):
    is_dimensionality_boosting: Annotated[bool, AfterValidator(_no_boosting)] = False
    previous_cone_mosaic: str | None = None
    load_pretrain_timestep: int | None = None


class _Training(_Section):
    # 1e-3 without a point is text in YAML 1.1
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=False)]
    learning_progress_logging: bool = True
    logging_mode: Literal["Local", "Tensorboard", "Comet"] = "Local"
    logging_cycle: Annotated[int, Field(ge=1)] = 1000
    max_gradient_updates: Annotated[int, Field(ge=1)]


class _CortexEyeMotion(_Section):
    type: Annotated[Literal["GroundTruth", "Default"], _only("GroundTruth")]


_SandboxOrDefault: TypeAlias = Annotated[Literal["Sandbox", "Default"], _only("Sandbox")]


class _CortexSpatialSampling(_Section):
    type: _SandboxOrDefault


class _CortexConeType(_Section):
    type: Literal["Default"]


class _CortexDemosaicing(_Section):
    type: _SandboxOrDefault


class _CortexInhibition(_Section):
    type: Annotated[Literal["Identity", "Default"], _only("Identity")]


class _Cortex(_Section):
    cortex_learn_eye_motion: _CortexEyeMotion
    cortex_learn_spatial_sampling: _CortexSpatialSampling
    cortex_learn_cone_spectral_type: _CortexConeType
    cortex_learn_demosaicing: _CortexDemosaicing
    cortex_learn_lateral_inhibition: _CortexInhibition
    latent_dim: Annotated[int, Field(ge=1)] = 8


class _Configuration(_Section):
    Experiment: _Experiment
    RetinaModel: _Retina
    Dataset: _Dataset = _Dataset()
    DimensionalityBoosting: _Boosting = _Boosting()
    Training: _Training
    CorticalModel: _Cortex

    @model_validator(mode="after")
    def _tetrachromat_needs_its_switch(self) -> _Configuration:
        cones = self.RetinaModel.retina_spectral_sampling
        has_q = "Q" in cones.cone_types or "Q" in (cones.cone_fundamentals or {})
        if has_q and not self.Experiment.simulating_tetra:
            raise PydanticCustomError(
                "tetra", "Q cones are expected together with Experiment.simulating_tetra: true"
            )
        return self
