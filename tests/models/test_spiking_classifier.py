"""The spiking classifier: what its codes say, what its parts do, what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine import simulate
from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.models import SpikingClassifier
from calcarine.spiking import export_nir, import_nir

CODES = ("current", "latency", "poisson", "events")


def make(seed: int = 0, **settings) -> SpikingClassifier:
    torch.manual_seed(seed)
    return SpikingClassifier(**{"hidden": 20, "steps": 20, **settings}).eval()


def pictures(count: int = 3, size=(8, 8), dtype=torch.float32) -> torch.Tensor:
    return torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("encoding", CODES)
@pytest.mark.parametrize("size", [(8, 8), (5, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_code_gives_spikes_and_logits(encoding, size, dtype):
    model = make(encoding=encoding, size=size, classes=4).to(dtype)
    response = model.respond(pictures(3, size, dtype))
    inputs = math.prod(size) * (2 if encoding == "events" else 1)
    assert response.encoded.shape == (20, 3, inputs)
    assert response.hidden.shape == (20, 3, 20)
    assert response.membrane.shape == (20, 3, 4)
    for spikes in (response.encoded, response.hidden):
        assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert response.logits.dtype == dtype
    assert torch.equal(response.logits, response.membrane.amax(0))


@pytest.mark.parametrize("encoding", CODES)
def test_what_a_picture_says_does_not_depend_on_those_beside_it(encoding):
    model, shown = make(encoding=encoding), pictures(4)
    together = model.respond(shown).encoded
    alone = torch.cat([model.respond(one[None]).encoded for one in shown], dim=1)
    assert torch.equal(together, alone)
    assert not torch.equal(together[:, 0], together[:, 1])


def test_current_fires_at_the_rate_of_the_closed_form():
    """Interval of a pixel under constant drive g p: tau ln(g p / (g p - 1)); fine steps."""
    model = make(size=(1, 3), steps=20_000, dt_ms=0.01, gain=6.0)
    values = torch.tensor([[[[0.2, 0.5, 1.0]]]], dtype=torch.float64)
    found = model.double().encode(values)[:, 0].sum(0) / 0.2
    drive = 6.0 * values.flatten()
    expected = 1000 / (10 * (drive / (drive - 1)).log())
    assert torch.allclose(found, expected, rtol=0.03)


def test_pixels_below_threshold_stay_silent():
    model = make(gain=6.0, steps=200)
    spikes = model.encode(torch.full((1, 1, 8, 8), 0.99 / 6))
    assert spikes.sum() == 0
    assert model.encode(torch.full((1, 1, 8, 8), 1.2 / 6)).sum() > 0


def test_latency_falls_with_brightness_and_black_is_silent():
    model = make(size=(1, 4), encoding="latency", steps=30)
    spikes = model.encode(torch.tensor([[[[0.0, 0.25, 0.5, 1.0]]]]))[:, 0]
    assert spikes.sum(0).tolist() == [0, 1, 1, 1]
    # duration 24 ms: 24 (1 - p)
    assert spikes.argmax(0)[1:].tolist() == [18, 12, 0]


def test_poisson_rates_and_frozen_chance():
    model = make(size=(1, 2), encoding="poisson", steps=20_000, rate_hz=100.0)
    shown = torch.tensor([[[[0.3, 1.0]]]])
    rate = model.encode(shown)[:, 0].mean(0) * 1000
    assert torch.allclose(rate, torch.tensor([30.0, 100.0]), rtol=0.1)
    assert torch.equal(model.encode(shown), model.encode(shown))
    model.train()
    drawn = [model.encode(shown, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_events_come_from_edges_only():
    model = make(encoding="events", size=(9, 9), steps=40)
    even = model.encode(torch.zeros(1, 1, 9, 9))
    assert even.sum() == 0
    square = torch.zeros(1, 1, 9, 9)
    square[..., 2:7, 2:7] = 1
    count = model.encode(square).sum(0).reshape(2, 9, 9)
    assert count[:, 4, 4].sum() == 0  # nothing changes in the middle of the ink
    assert count[1].sum() > 0
    assert count[0].sum() > 0


def test_response_is_that_of_its_parts():
    model, shown = make(recurrent=True), pictures()
    response = model.respond(shown)
    hidden, _ = simulate.run(model.layer, model.w_in(response.encoded), engine="plain")
    membrane, _ = simulate.run(model.readout, model.w_out(hidden), engine="plain")
    assert hidden.sum() > 0
    assert torch.equal(response.hidden, hidden)
    assert torch.allclose(response.membrane, membrane, atol=1e-6)


def test_recurrence_changes_the_hidden_layer():
    shown = pictures()
    one, other = make(recurrent=False), make(recurrent=True)
    other.w_in.load_state_dict(one.w_in.state_dict())
    assert not torch.equal(one.respond(shown).hidden, other.respond(shown).hidden)


@pytest.mark.parametrize(("spread", "learnable"), [(0.0, False), (0.5, False), (0.5, True)])
def test_time_constants_are_spread_and_learned_as_asked(spread, learnable):
    model = make(spread=spread, learnable=learnable, hidden=400)
    found = model.time_constants_ms()
    for name, middle in (("tau_mem_ms", 10.0), ("tau_syn_ms", 5.0)):
        assert found[name].shape == (400,)
        logarithm = (found[name] / middle).log()
        assert logarithm.mean().abs() < 0.1
        assert logarithm.std().item() == pytest.approx(spread, abs=0.08)
        assert found[name].min() >= 2 - 1e-4
    learned = [p for n, p in model.named_parameters() if "tau" in n]
    assert len(learned) == (2 if learnable else 0)
    loss = model(pictures()).square().sum()
    gradients = torch.autograd.grad(loss, learned) if learned else ()
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_gradients_reach_the_weights_and_with_current_the_picture():
    model = make()
    shown = pictures().requires_grad_()
    model(shown).square().sum().backward()
    assert shown.grad.abs().sum() > 0
    assert model.w_in.weight.grad.abs().sum() > 0
    assert model.w_out.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_network_travels_as_nir(recurrent, tmp_path):
    pytest.importorskip("nir")
    model, shown = make(recurrent=recurrent, spread=0.3, learnable=True), pictures()
    response = model.respond(shown)
    export_nir(model.network(), tmp_path / "digits.nir")
    back = import_nir(tmp_path / "digits.nir")
    recording = simulate.Recording()
    membrane, _ = simulate.run(back, response.encoded, record={"hidden": recording})
    assert response.hidden.sum() > 50
    assert torch.equal(recording.values, response.hidden)
    assert torch.allclose(membrane.amax(0), response.logits, atol=1e-4)


def test_nan_is_passed_on():
    shown = pictures()
    shown[1, 0, 3, 3] = math.nan
    logits = make()(shown)
    assert logits[1].isnan().all()
    assert logits[[0, 2]].isfinite().all()


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (2, 3, 8, 8), (2, 1, 8, 9)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match=r"axes \(batch, 1, height, width\)"):
        make()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 0}, "counts of at least 1"),
        ({"steps": 0}, "counts of at least 1"),
        ({"size": (0, 8)}, "counts of at least 1"),
        ({"gain": 0.0}, "gain > 0"),
        ({"spread": -0.1}, "spread in"),
        ({"rate_hz": 1001.0}, "one spike per step"),
        ({"rate_hz": math.nan}, "one spike per step"),
    ],
)
def test_wrong_numbers_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        SpikingClassifier(**settings)


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="latency"):
        SpikingClassifier(encoding="latencies")
    with pytest.raises(UnknownNameError, match="superspike"):
        SpikingClassifier(surrogate="superspikes")
