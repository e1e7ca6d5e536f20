"""Return to baseline: exact for leaky units, and a network with two stable states is told."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, UnknownNameError
from calcarine.probes import return_to_baseline
from calcarine.stage import DynamicStage, Pathway


class R(NamedTuple):
    r: Tensor
    count: Tensor


class Bistable(DynamicStage):
    """r <- r + 0.2 (-r + gain relu(r - 1) + x): at rest at 0, and held above 2 if the gain is 2."""

    dt_ms = 2.0

    def __init__(self, gain: float = 2.0) -> None:
        super().__init__()
        self.gain = gain

    def initial_state(self, like: Tensor) -> R:
        return R(torch.zeros_like(like), torch.zeros(like.shape[0], dtype=torch.long))

    def forward(self, x: Tensor, state: R) -> tuple[Tensor, R]:
        target = (self.gain * torch.relu(state.r - 1)).clamp(max=4) + x
        r = state.r + 0.2 * (target - state.r)
        return r, R(r, state.count + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dt_ms", [2.0, 0.5])
def test_leaky_units_come_back_geometrically(leaky, dtype, dt_ms):
    """Each step keeps 1 - dt / tau of the distance, whatever the image, baseline and start."""
    model = leaky(torch.tensor(10.0, dtype=dtype), dt_ms, bias=0.7)
    images = 3 * torch.rand(4, 5, dtype=dtype)
    back = return_to_baseline(
        model, images, stimulus_ms=50, off_ms=100, generator=torch.Generator().manual_seed(1)
    )
    keep = 1 - dt_ms / 10
    expected = keep ** torch.arange(1 + round(100 / dt_ms), dtype=torch.double)
    assert back.areas == ("r",)
    assert torch.equal(back.time_ms, dt_ms * torch.arange(len(expected)).double())
    apart = (back.relative - expected[:, None]).abs().amax()
    assert apart < (1e-12 if dtype == torch.double else 1e-5)
    first = dt_ms * math.ceil(math.log(0.01) / math.log(keep))
    assert (back.return_ms == first).all()
    assert back.worst_return_ms == first
    assert back.mono_stable
    assert back.drift.item() < 1e-6
    assert back.starts[:4] == ("image",) * 4
    assert len(back.starts) == 4 + 2 * 3 * 8


def test_distance_is_also_told_in_units_of_the_baseline(leaky):
    model = leaky(torch.tensor(10.0, dtype=torch.double), bias=2.0)
    images = torch.ones(1, 9, dtype=torch.double)  # drives the units from 2 to 3
    back = return_to_baseline(model, images, off_ms=20, random_starts=0)
    assert back.to_baseline[0, 0, 0].item() == pytest.approx(0.5, rel=1e-6)
    assert torch.allclose(back.to_baseline, 0.5 * back.relative, rtol=1e-6)
    at_zero = return_to_baseline(leaky(torch.tensor(10.0)), images.float(), random_starts=0)
    assert at_zero.to_baseline[0, 0, 0] == math.inf


def test_starts_at_random_have_the_scale_of_the_largest_rate(leaky):
    """Units that move by 2 in every step, so that they rest at 2 and an image leads to 202."""
    model = leaky(torch.tensor(1e9, dtype=torch.double), bias=1e9)
    back = return_to_baseline(
        model, torch.zeros(1, 20000, dtype=torch.double), warmup_ms=2, off_ms=2, random_starts=1,
        scales=(0.5, 2.0), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert back.starts[1:] == ("uniform x0.5", "half-normal x0.5", "uniform x2", "half-normal x2")
    assert back.to_baseline[0, 0, 0].item() == pytest.approx(100)
    for column, start in enumerate(back.starts[1:], start=1):
        largest = 202 * float(start.split("x")[1])
        mean, square = (1 / 2, 1 / 3) if "uniform" in start else (math.sqrt(2 / math.pi), 1.0)
        apart = math.sqrt(largest**2 * square - 4 * largest * mean + 4)
        assert back.to_baseline[0, 0, column].item() == pytest.approx(apart / 2, rel=0.03)


def test_two_stable_states_are_told_by_starts_that_no_image_leads_to():
    """Weak images leave it near 0; starts above 2 stay above."""
    images = torch.full((2, 3), 0.9)
    settings = {"off_ms": 200, "generator": torch.Generator().manual_seed(2)}
    weak = return_to_baseline(Bistable(), images, random_starts=0, **settings)
    assert weak.mono_stable
    strong = return_to_baseline(Bistable(), images, scales=(1.0, 20.0), **settings)
    assert not strong.mono_stable
    assert strong.worst_return_ms == math.inf
    stays = strong.return_ms[0].isinf()
    assert not stays[:2].any()
    assert {start for start, held in zip(strong.starts, stays.tolist(), strict=True) if held} <= {
        "uniform x20",
        "half-normal x20",
    }
    assert stays.any()
    assert return_to_baseline(Bistable(gain=0.9), images, scales=(20.0,), **settings).mono_stable


def test_coming_by_is_not_coming_back():
    """What passes the baseline and swings out again is back only when it stays."""

    class Swing(Bistable):
        def forward(self, x: Tensor, state: R) -> tuple[Tensor, R]:
            r = torch.where(x > 0, x, torch.cos(torch.pi / 2 * state.count)[:, None].to(x))
            return r * (state.count < 12)[:, None], R(
                r * (state.count < 12)[:, None], state.count + 1
            )

    back = return_to_baseline(
        Swing(), torch.ones(1, 1), warmup_ms=0, stimulus_ms=2, off_ms=40, random_starts=0
    )
    assert back.relative[0, 1, 0] < 1e-6
    assert back.relative[0, 2, 0] == pytest.approx(1)
    assert back.return_ms.item() == 22


def test_cordsnet_is_followed_area_by_area(cordsnet):
    images = torch.rand(3, 1, 17, 21)
    back = return_to_baseline(cordsnet, images, stimulus_ms=60, off_ms=100, random_starts=2)
    assert back.areas == ("area1", "area2")
    trace = cordsnet.trace(images, warmup_ms=400, stimulus_ms=60, off_ms=100)
    rest = cordsnet.baseline(images, 400).areas
    for k in (1, 2):
        apart = (trace[k][200 + 30 - 1 :] - rest[k - 1].r).flatten(2).norm(dim=2)
        assert torch.allclose(
            back.relative[k - 1, :, :3].float(), apart / apart[0], rtol=1e-3, atol=1e-5
        )
        size = rest[k - 1].r[0].norm()
        assert size > 0.1
        assert torch.allclose(back.to_baseline[k - 1, 0, :3].float(), apart[0] / size, rtol=1e-4)
    one = return_to_baseline(cordsnet, images, areas=["area2"], off_ms=10, random_starts=0)
    assert one.areas == ("area2",)


def test_stages_of_a_pathway_have_names_of_their_own(leaky):
    model = Pathway(first=leaky(torch.tensor(10.0)), second=leaky(torch.tensor(20.0)))
    back = return_to_baseline(model, torch.ones(1, 3), off_ms=20, random_starts=1)
    assert back.areas == ("first.r", "second.r")
    with pytest.raises(UnknownNameError, match=r"second\.r"):
        return_to_baseline(model, torch.ones(1, 3), areas=["third"])


def test_a_network_that_explodes_is_an_error(leaky):
    model = leaky(torch.tensor(-0.01))
    with pytest.raises(NonFiniteError, match="not stable"):
        return_to_baseline(model, torch.ones(1, 3), random_starts=0)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"images": torch.ones(0, 3)}, "at least one image"),
        ({"random_starts": -1}, "random_starts >= 0"),
        ({"scales": (0.0,)}, "scales above 0"),
        ({"tolerance": 1.0}, "0 < tolerance < 1"),
        ({"off_ms": 0.0}, "off_ms as a multiple"),
        ({"stimulus_ms": 1.0}, "stimulus_ms as a multiple"),
        ({"areas": []}, "at least one activity"),
    ],
)
def test_bad_settings_are_refused(leaky, settings, match):
    images = settings.pop("images", torch.ones(2, 3))
    with pytest.raises(InputError, match=match):
        return_to_baseline(leaky(torch.tensor(10.0)), images, **settings)
