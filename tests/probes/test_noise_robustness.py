"""Noise: frozen noise stays, noise per step is averaged by exactly what an integrator averages."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.probes import noise_robustness
from calcarine.probes._trials import player


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("tau_ms", [2.0, 10.0, 40.0])
def test_an_integrator_keeps_the_known_share_of_noise_per_step(leaky, tau_ms):
    """Variance a / (2 - a) at dt / tau = a; all of it where a step is a time constant."""
    model, a = leaky(torch.tensor(tau_ms, dtype=torch.double)), 2 / tau_ms
    images = torch.zeros(40, 500, dtype=torch.double)
    taken = player(model)
    for noise, share in ((1.0, a / (2 - a)), (3.0, 9 * a / (2 - a))):
        moments = taken.play(images, model.initial_state(images), 40 * tau_ms, 0, noise, seeded())
        *_, last = moments
        # The variance of 20000 draws is known to 1 %.
        assert last.output.var().item() == pytest.approx(share, rel=0.05)


def test_noise_per_step_hurts_less_by_the_averaging_and_frozen_noise_as_the_closed_form_says(leaky):
    """One unit per class: right where x + n stays above 0, with the standard deviation known."""
    model = leaky(torch.tensor(10.0, dtype=torch.double))
    images = torch.tensor([[0.0, 1.0]], dtype=torch.double).expand(4000, 2)
    labels = torch.ones(4000, dtype=torch.long)
    found = noise_robustness(
        model, [(images, labels)], [0.0, 1.0, 2.0], generator=seeded(), warmup_ms=0
    )
    assert found.kinds == ("frozen", "per_step")
    for row, kept in enumerate((1.0, 0.2 / 1.8)):
        for column, std in enumerate(found.noise_std.tolist()):
            spread = std * math.sqrt(2 * kept)  # of the difference of two units
            expected = 0.5 * math.erfc(-1 / (math.sqrt(2) * spread)) if spread else 1.0
            sigma = math.sqrt(expected * (1 - expected) / 4000)
            assert abs(found.accuracy[row, column].item() - expected) <= 4 * sigma
    assert found.accuracy[0, 2] < found.accuracy[1, 2] - 0.1


def test_models_with_one_seed_see_the_same_frozen_noise():
    seen: list[torch.Tensor] = []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    images = torch.rand(3, 4)
    for _ in range(2):
        noise_robustness(model, [(images, torch.zeros(3).long())], [0.5, 2.0], generator=seeded(4))
    assert torch.equal(seen[0], seen[2])
    assert torch.allclose((seen[1] - images) / 4, seen[0] - images)
    assert (seen[0] - images).std() > 0.2


def test_repeats_and_batches_add_up(cordsnet):
    images, labels = torch.rand(5, 1, 17, 21), torch.tensor([0, 1, 2, 3, 4])
    batches = [(images[:2], labels[:2]), (images[2:], labels[2:])]
    times = {"warmup_ms": 10, "stimulus_ms": 20}
    found = noise_robustness(cordsnet, batches, [0.0, 4.0], repeats=3, generator=seeded(), **times)
    assert found.count == 15
    assert found.correct.shape == (2, 2)
    clean = (cordsnet.classify(images, **times).argmax(1) == labels).sum()
    assert (found.correct[:, 0] == 3 * clean).all()
    low, high = found.interval()
    assert ((low <= found.accuracy) & (found.accuracy <= high)).all()
    assert (found.standard_error <= 0.5 / math.sqrt(15)).all()


def test_a_network_without_memory_sees_frozen_noise_only():
    model, batch = nn.Flatten(), (torch.eye(3), torch.arange(3))
    found = noise_robustness(model, [batch], [0.0, 50.0], repeats=40, generator=seeded())
    assert found.kinds == ("frozen",)
    assert found.accuracy[0, 0] == 1
    assert found.accuracy[0, 1] == pytest.approx(1 / 3, abs=0.15)
    with pytest.raises(InputError, match="single moment"):
        noise_robustness(model, [batch], kinds=["per_step"])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"noise_std": []}, "standard deviations"),
        ({"noise_std": [-1.0]}, "at least 0"),
        ({"noise_std": [math.nan]}, "at least 0"),
        ({"repeats": 0}, "repeats >= 1"),
        ({"kinds": ["pink"]}, "no kind of noise named 'pink'"),
        ({"kinds": []}, "expected 'frozen'"),
    ],
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(InputError, match=match):
        noise_robustness(nn.Flatten(), [(torch.eye(3), torch.arange(3))], **settings)


def test_bad_answers_are_refused():
    batch = (torch.eye(3), torch.arange(3))
    with pytest.raises(InputError, match="at least one batch"):
        noise_robustness(nn.Flatten(), [])
    with pytest.raises(ShapeError, match=r"logits \(batch, class\)"):
        noise_robustness(lambda x: x[..., None], [batch])
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        noise_robustness(lambda x: x * math.nan, [batch])
    with pytest.raises(InputError, match="below the number of classes"):
        noise_robustness(nn.Flatten(), [(torch.eye(3), torch.arange(1, 4))])
