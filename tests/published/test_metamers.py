"""Metamers of the published front ends at full size.

Source  berardino2018 (the front ends), freeman2011 (metamers of models)
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from calcarine.lgn import CenterSurround, Gaussian, LuminanceGainControl
from calcarine.probes import Metamer, mse
from calcarine.stimuli import pink_noise, sample_image

pytestmark = pytest.mark.slow
SIZE = 256


def picture(name: str = "camera") -> Tensor:
    return sample_image(name, size=(SIZE, SIZE), channels="gray", dtype=torch.float64)


def beginnings(name: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 1, SIZE, SIZE)
    if name == "white noise":
        return torch.rand(shape, generator=generator, dtype=torch.float64)
    if name == "pink noise":
        return pink_noise(shape, generator=generator, dtype=torch.float64)
    return picture(name)


@pytest.mark.parametrize("initial", ["white noise", "pink noise", "cat"])
@pytest.mark.parametrize("pad_mode", ["circular", "reflect"])
@pytest.mark.parametrize("model", ["gaussian", "center-surround"])
def test_linear_models_reach_machine_precision_from_anywhere(model, pad_mode, initial):
    made = (
        Gaussian(31, pad_mode=pad_mode)
        if model == "gaussian"
        else CenterSurround(31, 1.962, 4.235, pad_mode=pad_mode)
    )
    made = made.double().eval().requires_grad_(False)
    image = picture()
    probe = Metamer(image, made, beginnings(initial)).synthesize(1000, 1e-11, progress=False)
    loss = mse(made(probe.metamer), made(image)).max()
    print(f"{model} {pad_mode} {initial}: {probe.status} {probe.iterations} {loss:.1e}")
    assert probe.status == "converged"
    assert loss < 1e-10
    assert (probe.metamer - image).square().mean().sqrt() > 0.02


def test_gain_control_is_matched_too():
    model = LuminanceGainControl(31, pretrained=True).double().eval().requires_grad_(False)
    image = picture()
    probe = Metamer(image, model).synthesize(1000, 1e-9, progress=False)
    loss = mse(model(probe.metamer), model(image)).max()
    print(f"{probe.status} {probe.iterations} {loss:.1e}")
    assert loss < 1e-8
    assert (probe.metamer - image).square().mean().sqrt() > 0.02
