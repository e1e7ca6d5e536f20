"""The colour cortex as a whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from calcarine.errors import InputError, ShapeError
from calcarine.models import ColorVision
from calcarine.retina import Retina
from calcarine.testing import check_model

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))
from published_color_step import PublishedStep


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def copy_of_published(step: PublishedStep, cortex: ColorVision) -> None:
    """Give our cortex the published arrangement's weights."""
    cortex.identity.vectors.data.copy_(step.identity.data[0])
    net, unet = cortex.demosaicing, step.unet
    for level, theirs in zip(
        [*net.down, *net.join],
        [unet.enter, unet.down1, unet.down2, unet.join1, unet.join2],
        strict=True,
    ):
        level.first.weight.data.copy_(theirs[0].weight)
        level.second.weight.data.copy_(theirs[2].weight)
    for ours, theirs in zip([*net.up, net.readout], [unet.up1, unet.up2, unet.leave], strict=True):
        ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize(("dtype", "exact"), [(torch.double, 1e-12), (torch.float, 1e-5)])
def test_the_loss_is_that_of_the_published_arrangement(generator, dtype, exact):
    """Gradients are compared in float64: rounding may take a unit to the other side of zero."""
    mosaic = F.one_hot(torch.randint(0, 3, (32, 32), generator=generator), 3).permute(2, 0, 1)
    step = PublishedStep(mosaic.to(dtype))
    step.identity.data.normal_(generator=generator)
    cortex = ColorVision(size=32).to(dtype)
    copy_of_published(step, cortex)
    signals = torch.rand(4, 2, 32, 32, generator=generator, dtype=dtype)
    shift_px = torch.randint(-5, 5, (4, 2), generator=generator)
    rgb = torch.zeros(4, 3, 32, 32, dtype=dtype)
    theirs = step.losses(signals[:, :1], signals[:, 1:], shift_px, rgb)[0]
    ours = cortex.loss(signals, shift_px[:, None] / 16)
    assert torch.allclose(ours, theirs, rtol=exact)
    if dtype == torch.double:
        ours.backward()
        theirs.backward()
        for a, b in [
            (cortex.identity.vectors.grad, step.identity.grad[0]),
            (cortex.demosaicing.down[0].first.weight.grad, step.unet.enter[0].weight.grad),
            (cortex.demosaicing.up[0].bias.grad, step.unet.up1.bias.grad),
        ]:
            assert torch.allclose(a, b, rtol=0, atol=exact * b.abs().max().item())
            assert b.abs().sum() > 0


def test_a_perfect_percept_predicts_the_next_fixation(generator):
    """Movement and mask agree with the retina: copying what was seen leaves no error."""
    retina = Retina(24, sampling="uniform", inhibition=False, max_shift_px=5, noise=False)
    scene = torch.rand(6, 3, 34, 34, generator=generator)
    eye = retina(scene, generator)
    cortex = ColorVision(size=24, latent=3)
    cortex.identity.vectors.data.copy_(retina.mosaic)
    cortex.demosaicing.forward = lambda x: eye.field_of_view[:, 0]
    prediction = cortex.predict(eye.optic_nerve, eye.eye_shift)
    error = (prediction.optic_nerve[:, 0] - eye.optic_nerve[:, 1]) * prediction.known[:, 0]
    assert error.abs().max() < 2e-5
    assert (eye.optic_nerve[:, 0] - eye.optic_nerve[:, 1]).abs().mean() > 0.1
    assert 0.5 < prediction.known.mean() < 1
    assert cortex.prediction_loss(prediction, eye.optic_nerve) < 1e-6


def test_several_fixations_are_predicted_one_from_the_other(generator):
    cortex = ColorVision(size=16, widths=(4, 8), border=1)
    signals = torch.rand(2, 4, 16, 16, generator=generator)
    shifts = torch.zeros(2, 3, 2)
    prediction = cortex.predict(signals, shifts)
    assert prediction.percept.shape == (6, 8, 16, 16)
    alone = cortex.decode(signals[1:, 2:3])
    assert torch.allclose(prediction.percept[5], alone[0], atol=1e-6)


def test_a_cortex_can_be_probed(generator):
    cortex = ColorVision(size=16).eval().requires_grad_(False)
    check_model(cortex, torch.rand(2, 1, 16, 16, generator=generator)).raise_if_failed()


def test_batch_items_are_independent_and_dtype_is_followed(generator):
    cortex = ColorVision(size=16).double()
    nerve = torch.rand(3, 1, 16, 16, generator=generator, dtype=torch.double)
    together = cortex.decode(nerve)
    assert together.dtype == torch.double
    assert torch.allclose(together[1:2], cortex.decode(nerve[1:2]))
    assert cortex.encode(together).shape == nerve.shape


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="border below half"):
        ColorVision(size=8, border=4)
    cortex = ColorVision(size=16)
    for nerve, shift in [
        ((1, 1, 16, 16), (1, 0, 2)),
        ((1, 2, 16, 16), (1, 2, 2)),
        ((2, 16, 16), (2, 15, 2)),
    ]:
        with pytest.raises(ShapeError, match="ColorVision expected"):
            cortex.predict(torch.rand(nerve), torch.zeros(shift))
    with pytest.raises(ShapeError, match="ConeIdentity expected"):
        cortex.decode(torch.rand(1, 1, 20, 20))
