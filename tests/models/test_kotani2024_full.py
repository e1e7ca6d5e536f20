"""The full colour cortex: every part learned, given or left out."""

from __future__ import annotations

import pytest
import torch

from calcarine.cortex import LatticePositions
from calcarine.errors import InputError, UnknownNameError
from calcarine.models import ColorVision
from calcarine.retina import Retina

STEPS = 150
SMALL = {"size": 32, "widths": (4, 8)}


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def told(retina: Retina, **settings: object) -> ColorVision:
    """A cortex that is told everything."""
    cortex = ColorVision(
        size=retina.size,
        **{"inhibition": "true", "positions": "true", "border_rounds": 3, **settings},
    )
    cortex.take_facts(retina)
    return cortex


def smooth_scene(retina: Retina, generator: torch.Generator, batch: int = 4) -> torch.Tensor:
    coarse = torch.rand(batch, 3, 9, 9, generator=generator)
    side = retina.scene_size
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0.05, 1)


def test_a_perfect_percept_predicts_the_next_fixation_behind_a_fovea(generator):
    """Inhibition, positions, movement and mask agree with the retina's."""
    retina = Retina(32, max_shift_px=8, noise=False)
    eye = retina(smooth_scene(retina, generator), generator)
    cortex = told(retina, latent=3)
    cortex.identity.vectors.data.copy_(retina.mosaic)
    cortex.demosaicing.forward = lambda x: eye.sampled[:, 0]
    prediction = cortex.predict(eye.optic_nerve, eye.eye_shift)
    error = (prediction.optic_nerve[:, 0] - eye.optic_nerve[:, 1]) * prediction.known[:, 0]
    change = (eye.optic_nerve[:, 0] - eye.optic_nerve[:, 1]) * prediction.known[:, 0]
    assert error.square().mean() < 0.01 * change.square().mean()
    assert 0.4 < prediction.known.mean() < 0.95
    assert torch.allclose(cortex.encode(eye.sampled[:, 0]), eye.optic_nerve[:, :1], atol=1e-4)


def test_decoding_undoes_inhibition_before_anything_else(generator):
    retina = Retina(32, noise=False)
    eye = retina(smooth_scene(retina, generator), generator)
    cortex = told(retina, border_rounds=8)
    cortex.demosaicing.forward = lambda x: x
    first = cortex.decode(eye.optic_nerve[:, :1])[:, 0]
    assert torch.allclose(first, eye.activation[:, 0], atol=2e-3)
    assert (eye.optic_nerve[:, 0] - eye.activation[:, 0]).abs().max() > 0.1


def test_movements_are_estimated_once_positions_are_known(generator):
    retina = Retina(32, max_shift_px=6, noise=False)
    eye = retina(smooth_scene(retina, generator, batch=8), generator)
    cortex = told(retina, movement="estimated", widths=(4, 8))
    torch.nn.init.zeros_(cortex.demosaicing.readout.weight)  # no percept yet: signals have to tell
    found = cortex.estimate(eye.optic_nerve)
    assert not found.requires_grad
    error = ((found - eye.eye_shift) * retina.window / 2).round().abs().amax(2)
    assert (error == 0).double().mean() >= 0.5
    assert error.max() <= 1
    assert eye.eye_shift.abs().max() > 0.1
    given = cortex.loss(eye.optic_nerve, found)
    assert torch.allclose(cortex.loss(eye.optic_nerve), given, rtol=1e-5)


def test_everything_learned_learns_from_the_prediction_error(generator):
    retina = Retina(32, max_shift_px=6)
    cortex = ColorVision(**SMALL, inhibition="learned", positions="learned", movement="estimated")
    for coupling in cortex.positions.couplings:  # away from the start, where hidden layers rest
        torch.nn.init.normal_(coupling.hyper[-1].weight, std=0.02, generator=generator)
    with torch.no_grad():
        cortex.identity.vectors.normal_(generator=generator)
    eye = retina(smooth_scene(retina, generator), generator)
    cortex.loss(eye.optic_nerve).backward()
    for name, parameter in cortex.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_positions_follow_what_predicts_better(generator):
    """With everything else known, descending the prediction error brings cells to their places."""
    torch.manual_seed(0)
    retina = Retina(32, max_shift_px=5, noise=False, frames=4)
    cortex = ColorVision(size=32, latent=3, inhibition="true", positions="learned", border_rounds=3)
    cortex.take_facts(retina)
    cortex.identity.vectors.data.copy_(retina.mosaic)
    cortex.identity.requires_grad_(False)
    eye = retina(smooth_scene(retina, generator, batch=6), generator)
    cortex.demosaicing.forward = lambda x: eye.sampled[:, :-1].flatten(0, 1)
    true = retina.sampling.positions[None]
    optimiser = torch.optim.Adam(cortex.positions.parameters(), lr=5e-3)
    lattice = LatticePositions(32).positions(true)
    start = (lattice - true).square().sum(1).mean().sqrt().item() * retina.size / 2
    losses = []
    for _ in range(STEPS):
        loss = cortex.loss(eye.optic_nerve, eye.eye_shift)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    error = (cortex.positions.positions(true) - true).square().sum(1).mean()
    miss = error.sqrt().item() * retina.size / 2
    assert losses[-1] < 0.4 * losses[0]
    assert start > 1.5
    assert miss < 0.6 * start


@pytest.mark.parametrize("positions", ["lattice", "learned", "true"])
def test_unwarping_shows_the_percept_in_the_field(positions, generator):
    retina = Retina(32, noise=False)
    cortex = ColorVision(**SMALL, positions=positions)
    cortex.take_facts(retina)
    percept = torch.rand(2, 8, 32, 32, generator=generator)
    shown = cortex.unwarp(percept, 48)
    assert shown.shape == (2, 8, 48, 48)
    assert shown[..., 8:-8, 8:-8].min() > 0
    assert cortex.unwarp(percept).shape[-1] == (32 if positions == "lattice" else 64)


def test_the_sandbox_holds_what_it_always_held():
    names = {name.split(".")[0] for name in ColorVision(**SMALL).state_dict()}
    assert names == {"identity", "demosaicing"}
    torch.manual_seed(3)
    sandbox = ColorVision(**SMALL).state_dict()
    torch.manual_seed(3)
    full = ColorVision(**SMALL, inhibition="learned", positions="learned").state_dict()
    assert all(torch.equal(value, full[name]) for name, value in sandbox.items())


def test_sums_that_nearly_cancel_stay_in_full_precision(generator):
    retina = Retina(32, max_shift_px=6)
    cortex = ColorVision(**SMALL, inhibition="learned", positions="learned", movement="estimated")
    eye = retina(smooth_scene(retina, generator), generator)
    plain = cortex.predict(eye.optic_nerve)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = cortex.predict(eye.optic_nerve)
        assert mixed.optic_nerve.dtype == torch.float32
        assert torch.equal(cortex.encode(plain.percept), cortex.encode(plain.percept.clone()))
        assert torch.equal(cortex.estimate(eye.optic_nerve), cortex.estimate(eye.optic_nerve))
    assert torch.equal(mixed.known, plain.known)
    assert (mixed.optic_nerve - plain.optic_nerve).abs().max() < 0.05


@pytest.mark.slow
def test_a_whole_step_is_one_graph(generator):
    """Nothing in the prediction error waits for the host or leaves the graph."""
    cortex = ColorVision(
        **SMALL, inhibition="learned", positions="learned", movement="estimated", border_rounds=1
    )
    nerve = torch.rand(2, 2, 32, 32, generator=generator)
    eager = cortex.loss(nerve)
    compiled = torch.compile(cortex.loss, backend="aot_eager", fullgraph=True)(nerve)
    assert torch.allclose(compiled, eager, rtol=1e-4)
    compiled.backward()
    assert all(p.grad is not None for p in cortex.parameters())


def test_dtype_is_followed_and_items_are_independent(generator):
    retina = Retina(32, max_shift_px=6)
    cortex = ColorVision(
        **SMALL, inhibition="learned", positions="learned", movement="estimated"
    ).double()
    nerve = retina(smooth_scene(retina, generator), generator).optic_nerve.double()
    together = cortex.predict(nerve)
    alone = cortex.predict(nerve[1:2])
    assert together.optic_nerve.dtype == torch.double
    assert torch.allclose(together.optic_nerve[1:2], alone.optic_nerve, atol=1e-5)
    assert torch.equal(together.known[1:2], alone.known)


def test_parts_that_do_not_exist_or_fit_are_refused():
    with pytest.raises(UnknownNameError, match="lateral inhibition"):
        ColorVision(inhibition="leaned")
    with pytest.raises(UnknownNameError, match="positions of cells"):
        ColorVision(positions="given")
    with pytest.raises(UnknownNameError, match="eye movements"):
        ColorVision(movement="guessed")
    with pytest.raises(InputError, match="field_px"):
        ColorVision(field_px=8)
    with pytest.raises(InputError, match="this retina has none"):
        ColorVision(size=32, inhibition="true").take_facts(Retina(32, inhibition=False))
    with pytest.raises(InputError, match="take_facts"):
        ColorVision(size=32, positions="true").unwarp(torch.rand(1, 8, 32, 32))
