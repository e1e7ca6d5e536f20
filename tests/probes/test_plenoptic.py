"""Models of ours in plenoptic's probes, models of plenoptic in ours: both checks agree."""

from __future__ import annotations

import warnings

import pytest
import torch

from calcarine.errors import InputError
from calcarine.lgn import (
    CenterSurround,
    Gaussian,
    LinearNonlinear,
    LuminanceContrastGainControl,
    LuminanceGainControl,
    OnOff,
)
from calcarine.models import PortillaSimoncelli
from calcarine.probes import Metamer, check_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    plenoptic = pytest.importorskip("plenoptic")

pytestmark = pytest.mark.filterwarnings("ignore:::plenoptic", "ignore:.*:UserWarning")

SHAPE = (1, 1, 64, 64)
OURS = {
    "Gaussian": lambda: Gaussian(7),
    "CenterSurround": lambda: CenterSurround(7),
    "LinearNonlinear": lambda: LinearNonlinear(7),
    "LuminanceGainControl": lambda: LuminanceGainControl(7),
    "LuminanceContrastGainControl": lambda: LuminanceContrastGainControl(7),
    "OnOff": lambda: OnOff(7),
    "PortillaSimoncelli": lambda: PortillaSimoncelli(
        SHAPE[2:], n_scales=2, n_orientations=2, spatial_corr_width=3
    ),
}
THEIRS = {
    "Gaussian": lambda: plenoptic.models.Gaussian(7),
    "CenterSurround": lambda: plenoptic.models.CenterSurround(7),
    "LinearNonlinear": lambda: plenoptic.models.LinearNonlinear(7),
    "LuminanceGainControl": lambda: plenoptic.models.LuminanceGainControl(7),
    "LuminanceContrastGainControl": lambda: plenoptic.models.LuminanceContrastGainControl(7),
    "OnOff": lambda: plenoptic.models.OnOff(7),
    "PortillaSimoncelli": lambda: plenoptic.models.PortillaSimoncelli(
        SHAPE[2:], n_scales=2, n_orientations=2, spatial_corr_width=3
    ),
}


def image(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(5), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OURS)
def test_our_models_pass_their_check_and_ours(name, dtype):
    model = OURS[name]().to(dtype).eval().requires_grad_(False)
    plenoptic.validate.validate_model(model, image_shape=SHAPE, image_dtype=dtype)
    check_model(model, image(dtype)).raise_if_failed()


@pytest.mark.parametrize("name", THEIRS)
def test_their_models_pass_our_check_and_theirs(name):
    model = THEIRS[name]().eval()
    plenoptic.remove_grad(model)
    plenoptic.validate.validate_model(model, image_shape=SHAPE)
    check_model(model, image()).raise_if_failed()


def test_both_refuse_parameters_that_learn():
    for model in (THEIRS["LuminanceGainControl"](), OURS["LuminanceGainControl"]()):
        model.requires_grad_(True).eval()
        with pytest.raises(ValueError, match="learnable"):
            plenoptic.validate.validate_model(model, image_shape=SHAPE)
        with pytest.raises(InputError, match="parameters_frozen"):
            check_model(model, image()).raise_if_failed()


@pytest.mark.parametrize("name", [n for n in OURS if n != "PortillaSimoncelli"])
def test_our_models_run_in_their_metamer(name):
    model = OURS[name]().eval().requires_grad_(False)
    theirs = plenoptic.Metamer(image(), model)
    theirs.synthesize(max_iter=20)
    losses = torch.as_tensor(theirs.losses)
    assert losses.isfinite().all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", THEIRS)
def test_their_models_run_in_our_metamer(name):
    model = THEIRS[name]().eval()
    plenoptic.remove_grad(model)
    probe = Metamer(image(), model).synthesize(20, progress=False)
    assert probe.losses.representation[-1] < 0.5 * probe.losses.representation[0]


@pytest.mark.parametrize("scales", ["together", "separate"])
def test_their_textures_go_from_coarse_to_fine_in_our_metamer(scales):
    model = THEIRS["PortillaSimoncelli"]().eval()
    plenoptic.remove_grad(model)
    probe = Metamer(image(), model).synthesize(30, scales=scales, progress=False)
    assert probe.scale_changes[-1][1] == list(model.scales)
    first, last = probe.initial, probe.metamer
    distances = [(model(x) - probe.target).square().mean() for x in (first, last)]
    assert distances[1] < distances[0]
