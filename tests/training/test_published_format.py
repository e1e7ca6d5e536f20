"""The published configuration format, translated into recipes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from calcarine import recipe
from calcarine.errors import RecipeError
from calcarine.training.published_format import is_published, translate

SANDBOX = Path(__file__).parents[1] / "data" / "published_sandbox.yaml"


@pytest.fixture
def sandbox() -> dict[str, Any]:
    return yaml.safe_load(SANDBOX.read_text())


def changed(data: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Set values by path, dots written as two underscores; ``...`` removes the key."""
    data = copy.deepcopy(data)
    for path, value in values.items():
        *sections, key = path.split("__")
        here = data
        for section in sections:
            here = here[section]
        if value is ...:
            del here[key]
        else:
            here[key] = value
    return data


def loaded(data: dict[str, Any]) -> Any:
    return recipe.load(translate(data).recipe).config


def test_the_published_sandbox_is_our_sandbox_with_the_published_schedule(sandbox):
    ours = recipe.load("color-sandbox").config
    theirs = loaded(sandbox)
    assert theirs.name == "Sandbox"
    assert theirs.retina == ours.retina
    assert theirs.cortex == ours.cortex.model_copy(update={"plasticity": 1.0})
    assert theirs.stimuli == ours.stimuli
    assert theirs.batch_size == ours.batch_size == 8
    assert theirs.illuminant_spread == 0
    training = theirs.training
    assert (training.updates, training.learning_rate) == (100_000, 1e-3)
    assert (training.schedule, training.warmup_updates) == ("constant", 0)
    assert (training.log_every, training.loggers) == (1000, ("local",))


def test_the_substitute_for_the_data_set_is_announced(sandbox):
    notes = translate(sandbox).notes
    assert list(notes) == ["stimuli.source"]
    assert "ImageNet64x64" in notes["stimuli.source"]
    assert "sample photographs" in notes["stimuli.source"]


def test_a_translation_builds_and_computes_a_loss(sandbox):
    import torch

    small = changed(
        sandbox,
        Experiment__simulation_size=16,
        RetinaModel__max_shift_size=2,
        Dataset__batch_size=1,
        CorticalModel__latent_dim=3,
    )
    task = recipe.load(translate(small).recipe).build_task()
    losses = task.losses(torch.Generator().manual_seed(0))
    assert all(loss > 0 for loss in losses.values())
    assert (task.cortex.size, task.cortex.latent, task.batch_size) == (16, 3, 1)


def test_only_what_has_no_default_is_needed(sandbox):
    less = changed(
        sandbox,
        Dataset=...,
        DimensionalityBoosting=...,
        Experiment__simulating_tetra=...,
        Experiment__timesteps_per_image=...,
        RetinaModel__retina_spike_conversion=...,
        Training__logging_mode=...,
        Training__logging_cycle=...,
        Training__learning_progress_logging=...,
        CorticalModel__latent_dim=...,
    )
    assert translate(less).recipe == translate(sandbox).recipe


@pytest.mark.parametrize(
    ("mode", "loggers"),
    [
        ("Local", ("local",)),
        ("Tensorboard", ("local", "tensorboard")),
        ("Comet", ("local", "comet")),
    ],
)
def test_logging_modes(sandbox, mode, loggers):
    assert loaded(changed(sandbox, Training__logging_mode=mode)).training.loggers == loggers
    off = changed(sandbox, Training__learning_progress_logging=False)
    assert loaded(off).training.loggers == ()


def test_pigments(sandbox):
    anomalous = changed(
        sandbox,
        RetinaModel__retina_spectral_sampling={
            "type": "Custom_Cone_Fundamentals",
            "cone_types": "LMS",
            "cone_fundamentals": {"L": 560, "M": 550, "S": 419},
        },
    )
    assert loaded(anomalous).retina.peaks_nm == (560, 550, 419)


@pytest.mark.parametrize("peak", [545, 506])
def test_a_tetrachromat_has_four_peaks_and_a_word_of_caution(sandbox, peak):
    data = changed(
        sandbox,
        Experiment__simulating_tetra=True,
        RetinaModel__retina_spectral_sampling={
            "type": "Default",
            "cone_types": "LMSQ",
            "cone_fundamentals": {"Q": peak},
        },
    )
    assert loaded(data).retina.peaks_nm == (560, 530, 419, peak)
    assert "fourth dimension" in translate(data).notes["stimuli.source"]
    with pytest.raises(RecipeError, match="simulating_tetra: true"):
        translate(changed(data, Experiment__simulating_tetra=False))


@pytest.mark.parametrize("kind", ["L", "LM", "MS+L_replace_M", "LM+S_ratio_LM"])
def test_mosaics_and_therapies_keep_their_names(sandbox, kind):
    data = changed(sandbox, RetinaModel__retina_spectral_sampling__cone_types=kind)
    assert loaded(data).retina.mosaic == kind


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("TwoFoveas", "two_foveas"),
        ("HorizontalStreak", "horizontal_streak"),
        ("Uniform", "uniform"),
    ],
)
def test_layouts_of_cones(sandbox, theirs, ours):
    spatial = {"type": "CustomConePositions", "cone_position_distribution_type": theirs}
    data = changed(
        sandbox, RetinaModel__retina_spatial_sampling=spatial, Experiment__simulation_size=16
    )
    translated = translate(data)
    config = recipe.load(translated.recipe).config
    assert (config.retina.sampling, config.retina.layout) == ("fovea", ours)
    assert config.stimuli.size >= 16 + 2 * 5
    assert "regular lattice" in translated.notes["retina.sampling"]


@pytest.mark.parametrize(
    "spatial",
    [
        {"type": "CustomConePositions"},
        {"type": "Default", "cone_position_distribution_type": "TwoFoveas"},
    ],
)
def test_a_layout_belongs_to_custom_positions(sandbox, spatial):
    with pytest.raises(RecipeError, match="cone_position_distribution_type together"):
        translate(changed(sandbox, RetinaModel__retina_spatial_sampling=spatial))


def test_inhibition_is_translated(sandbox):
    data = changed(sandbox, RetinaModel__retina_lateral_inhibition={"type": "Default"})
    assert loaded(data).retina.inhibition is True


def test_the_full_cortex_is_refused_key_by_key_at_once(sandbox):
    default = {"type": "Default"}
    full = changed(
        sandbox,
        CorticalModel__cortex_learn_eye_motion=default,
        CorticalModel__cortex_learn_spatial_sampling=default,
        CorticalModel__cortex_learn_demosaicing=default,
        CorticalModel__cortex_learn_lateral_inhibition=default,
        DimensionalityBoosting={"is_dimensionality_boosting": True, "previous_cone_mosaic": "LM"},
        RetinaModel__retina_spike_conversion={"type": "LeakyIntegrateAndFire"},
    )
    with pytest.raises(RecipeError) as caught:
        translate(full, label="full.yaml")
    first, *lines = str(caught.value).splitlines()
    assert first == "full.yaml has 6 mistake(s):"
    for key in ("eye_motion", "spatial_sampling", "demosaicing", "lateral_inhibition"):
        line = next(line for line in lines if f"CorticalModel.cortex_learn_{key}.type" in line)
        assert "'Default' is not part of this version" in line
    assert sum("is not part of this version" in line for line in lines) == 6


def test_every_mistake_is_named_at_once_with_suggestions(sandbox):
    bad = changed(
        sandbox,
        Experiment__simulation_size=...,
        Experiment__simulation_sise=64,
        RetinaModel__max_shift_size="five",
        RetinaModel__retina_spectral_sampling__cone_types="LMX",
        RetinaModel__retina_eye_motion__type="Defualt",
        Dataset__dataset_name="ImageNet",
        Training__learning_rate=-1,
        Training__learning_progress_logging="yes please",
        Training__max_updates=5,
        Corticalmodel={},
    )
    with pytest.raises(RecipeError) as caught:
        translate(bad)
    text = str(caught.value)
    for expected in (
        "Experiment.simulation_size: field required",
        "simulation_sise: unknown key. Did you mean 'simulation_size'?",
        "RetinaModel.max_shift_size: input should be a valid integer (got 'five')",
        "there is no cone mosaic named 'LMX'",
        "RetinaModel.retina_eye_motion.type: input should be 'Default' (got 'Defualt')",
        "Dataset.dataset_name: input should be 'ImageNet64x64'",
        "Training.learning_rate: input should be greater than 0 (got -1)",
        "Training.learning_progress_logging: input should be a valid boolean",
        "Training.max_updates: unknown key.",
        "Corticalmodel: unknown key. Did you mean 'CorticalModel'?",
    ):
        assert expected in text
    assert text.splitlines()[0].endswith("has 10 mistake(s):")


def test_a_rate_that_yaml_reads_as_text_is_understood(sandbox):
    assert yaml.safe_load("1e-3") == "1e-3"
    assert loaded(changed(sandbox, Training__learning_rate="1e-3")).training.learning_rate == 1e-3


def test_names_become_names_of_folders(sandbox):
    translated = translate(changed(sandbox, Experiment__name="my run / 2")).recipe
    assert translated["name"] == "my-run-2"
    assert "my run / 2" in translated["description"]


def test_detection(sandbox):
    assert is_published(sandbox)
    assert is_published({"Experiment": None})
    assert not is_published(recipe.load("color-sandbox").to_dict())
    with pytest.raises(RecipeError, match="RetinaModel: field required"):
        translate({"Experiment": {"name": "x", "simulation_size": 64}})
