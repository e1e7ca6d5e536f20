"""The windows of pairs, the frequencies of triplets, bounds, and rules at work inside a task."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from calcarine import cite
from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.spiking.encoders import poisson_spikes
from calcarine.spiking.lif_box import LIFBox
from calcarine.spiking.stdp import PairSTDP, TripletSTDP
from calcarine.training import Task, TrainingSettings, fit
from calcarine.training.task import Step


def learn(rule: nn.Module, pre: Tensor, post: Tensor, weight: Tensor) -> Tensor:
    """Pass whole trains (time, batch, unit) through a rule."""
    state = rule.initial_state(pre[0], post[0])
    for x, z in zip(pre, post, strict=True):
        weight, state = rule(x, z, weight, state)
    return weight


def train(times: list[list[float]], steps: int, dt_ms: float = 1.0) -> Tensor:
    """Return spikes (time, 1, unit) in double precision."""
    spikes = torch.zeros(steps, 1, len(times), dtype=torch.float64)
    for unit, when in enumerate(times):
        for t in when:
            spikes[round(t / dt_ms), 0, unit] += 1
    assert spikes.max() == 1
    return spikes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dt_ms", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("pairing", ["all_to_all", "nearest"])
def test_pair_window_is_exponential_on_both_sides(dtype, dt_ms, pairing):
    """One pre spike at step 60, post spikes at steps 10 .. 110: one window in a single run.

    Within a step the pre spike comes first, so a lag of 0 belongs to the side that strengthens.
    """
    rule = PairSTDP(
        a_plus=0.02, a_minus=0.03, tau_plus_ms=17.0, tau_minus_ms=34.0,
        bounds="none", pairing=pairing, dt_ms=dt_ms,
    )  # fmt: skip
    lags = torch.arange(-50, 51)
    pre = torch.zeros(121, 1, 1, dtype=dtype)
    pre[60] = 1
    post = torch.zeros(121, 1, len(lags), dtype=dtype)
    post[60 + lags, 0, torch.arange(len(lags))] = 1
    change = learn(rule, pre, post, torch.zeros(len(lags), 1, dtype=dtype))[:, 0].double()
    lag_ms = lags.double() * dt_ms
    window = torch.where(
        lags >= 0, 0.02 * torch.exp(-lag_ms / 17.0), -0.03 * torch.exp(lag_ms / 34.0)
    )
    assert (change - window).abs().max() < 1e-4 * 0.02
    assert change.max() > 0.015
    assert change.min() < -0.02


def test_every_pair_counts_or_only_the_nearest():
    pre, post = [[0.0, 4.0, 9.0]], [[12.0, 15.0]]
    pre_spikes, post_spikes = train(pre, 20), train(post, 20)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    settings = {"a_plus": 1.0, "a_minus": 0.0, "tau_plus_ms": 20.0, "bounds": "none"}
    every = learn(PairSTDP(**settings), pre_spikes, post_spikes, zero)
    last = learn(PairSTDP(**settings, pairing="nearest"), pre_spikes, post_spikes, zero)
    pairs = [math.exp(-(t - s) / 20) for t in post[0] for s in pre[0]]
    nearest = [math.exp(-(t - 9.0) / 20) for t in post[0]]
    assert every.item() == pytest.approx(sum(pairs), rel=1e-12)
    assert last.item() == pytest.approx(sum(nearest), rel=1e-12)


VISUAL_CORTEX = {
    "a2_plus": 5e-10, "a3_plus": 6.2e-3, "a2_minus": 7e-3, "a3_minus": 2.3e-4,
    "tau_plus": 16.8, "tau_x": 101.0, "tau_minus": 33.7, "tau_y": 125.0,
}  # fmt: skip
"""pfister2006, Table 3: visual cortex, full model, all-to-all."""


def triplet_sum(pre: list[float], post: list[float]) -> float:
    """Sum the triplet model over spike times, pair by pair: no traces, no steps."""
    p = VISUAL_CORTEX

    def past(times: list[float], now: float, tau: float) -> float:
        return sum(math.exp(-(now - t) / tau) for t in times if t < now)

    up = sum(
        past(pre, t, p["tau_plus"]) * (p["a2_plus"] + p["a3_plus"] * past(post, t, p["tau_y"]))
        for t in post
    )
    down = sum(
        past(post, t, p["tau_minus"]) * (p["a2_minus"] + p["a3_minus"] * past(pre, t, p["tau_x"]))
        for t in pre
    )
    return up - down


MEASURED = {
    (10, 10): (0.14, 0.10), (20, 10): (0.29, 0.14), (40, 10): (0.53, 0.11), (50, 10): (0.56, 0.26),
    (10, -10): (-0.41, 0.11), (20, -10): (-0.34, 0.10), (40, -10): (0.56, 0.32),
    (50, -10): (0.75, 0.19),
}  # fmt: skip
"""Pairs per second and post minus pre in ms -> relative change and its standard error, the
recordings that pfister2006 fits its model to."""


@pytest.fixture(scope="module")
def frequency_protocol() -> dict[tuple[int, int], tuple[float, float]]:
    """Return (frequency, lag) -> changes by the rule and by the sum, for 60 pairs each."""
    found = {}
    trains = {}
    for frequency, lag in MEASURED:
        first = [20.0 + k * 1000 / frequency for k in range(60)]
        trains[frequency, lag] = (first, [t + lag for t in first])
    steps = 6060
    pre = train([a for a, _ in trains.values()], steps)
    post = train([b for _, b in trains.values()], steps)
    rule = TripletSTDP(bounds="none")
    weight = learn(rule, pre, post, torch.ones(len(trains), len(trains), dtype=torch.float64))
    for unit, (key, (a, b)) in enumerate(trains.items()):
        found[key] = (weight[unit, unit].item() - 1, triplet_sum(a, b))
    return found


def test_triplets_give_the_event_driven_sum(frequency_protocol):
    for by_rule, by_sum in frequency_protocol.values():
        assert by_rule == pytest.approx(by_sum, rel=1e-9)


def test_triplets_give_the_frequency_dependence_of_visual_cortex(frequency_protocol):
    """At +10 ms strengthening grows with frequency; at -10 ms weakening turns round by 40 Hz."""
    change = {key: by_rule for key, (by_rule, _) in frequency_protocol.items()}
    after = [change[frequency, 10] for frequency in (10, 20, 40, 50)]
    assert after == sorted(after)
    assert after[0] > 0.1
    assert change[10, -10] < -0.25
    assert change[20, -10] < -0.25
    assert change[40, -10] > 0.1
    assert change[50, -10] > 0.5
    for key, (mean, error) in MEASURED.items():
        assert abs(change[key] - mean) < 1.5 * error, key


def test_pairs_alone_cannot_do_that():
    """The same protocol by pairs at -10 ms: more spikes never turn weakening round this far."""
    times = [20.0 + k * 25.0 for k in range(60)]
    rule = PairSTDP(a_plus=0.007, a_minus=0.007, tau_plus_ms=16.8, tau_minus_ms=33.7, bounds="none")
    pre, post = train([times], 1600), train([[t - 10 for t in times]], 1600)
    assert learn(rule, pre, post, torch.zeros(1, 1, dtype=torch.float64)).item() < 0


def test_triplets_with_nearest_spikes_forget_earlier_ones():
    times, lag = [0.0, 30.0, 60.0], 10.0
    pre, post = train([times], 80), train([[t + lag for t in times]], 80)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    near = {"bounds": "none", "pairing": "nearest", "a2_minus": 0.0, "a3_minus": 0.0}
    change = learn(TripletSTDP(**near), pre, post, zero).item()
    # Every post spike: r1 of 10 ms ago, and o2 of 30 ms ago except for the first one.
    expected = math.exp(-10 / 16.8) * (3 * 5e-10 + 2 * 6.2e-3 * math.exp(-30 / 125.0))
    assert change == pytest.approx(expected, rel=1e-12)


def busy(batch: int = 2, steps: int = 300, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pre = poisson_spikes(torch.full((batch, 5), 80.0), steps, 1.0, generator).double()
    post = poisson_spikes(torch.full((batch, 3), 80.0), steps, 1.0, generator).double()
    return pre, post


@pytest.mark.parametrize("rule", [PairSTDP, TripletSTDP])
def test_the_batch_is_averaged(rule):
    pre, post = busy()
    start = torch.full((3, 5), 0.5, dtype=torch.float64)
    both = learn(rule(bounds="none"), pre, post, start)
    apart = [learn(rule(bounds="none"), pre[:, [b]], post[:, [b]], start) for b in range(2)]
    assert torch.allclose(both, (apart[0] + apart[1]) / 2, rtol=1e-12)
    assert not torch.allclose(apart[0], apart[1])


@pytest.mark.parametrize("rule", [PairSTDP, TripletSTDP])
@pytest.mark.parametrize("bounds", ["hard", "soft"])
def test_bounds_hold_against_strong_changes(rule, bounds):
    pre, post = busy(steps=1500)
    if rule is PairSTDP:
        strong = {"a_plus": 0.4, "a_minus": 0.4}
    else:
        strong = {"a2_plus": 0.3, "a3_plus": 0.3, "a2_minus": 0.3, "a3_minus": 0.3}
    start = torch.full((3, 5), 0.2, dtype=torch.float64)
    made = rule(w_min=-0.5, w_max=0.7, bounds=bounds, **strong)
    state, weight, seen = made.initial_state(pre[0], post[0]), start, []
    for x, z in zip(pre, post, strict=True):
        weight, state = made(x, z, weight, state)
        seen.append(weight)
    seen = torch.stack(seen)
    assert seen.min() >= -0.5
    assert seen.max() <= 0.7
    assert (seen[1:] != seen[:-1]).any()
    if bounds == "hard":
        assert seen.min() == -0.5
        assert seen.max() == 0.7


def test_soft_bounds_scale_with_the_room_that_is_left():
    pre, post = train([[0.0]], 12), train([[10.0]], 12)
    for start in (0.2, 1.0, 1.9):
        weight = torch.full((1, 1), start, dtype=torch.float64)
        rule = PairSTDP(a_plus=0.1, w_min=0.0, w_max=2.0, bounds="soft", tau_plus_ms=20.0)
        change = learn(rule, pre, post, weight).item() - start
        assert change == pytest.approx(0.1 * math.exp(-0.5) * (2 - start) / 2, rel=1e-9)


@pytest.mark.parametrize("rule", [PairSTDP(), TripletSTDP()])
def test_a_step_writes_into_nothing_and_carries_no_gradient(rule):
    pre, post = busy(steps=40)
    start = torch.full((3, 5), 0.5, dtype=torch.float64, requires_grad=True)
    kept = start.detach().clone()
    state = rule.initial_state(pre[0], post[0])
    before = [trace.clone() for trace in state]
    weight, after = rule(torch.ones_like(pre[0]), post[0], start, state)
    assert not weight.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(before, state, strict=True))
    assert not torch.equal(after.r1, state.r1)
    assert torch.equal(start, kept)
    assert not torch.equal(learn(rule, pre, post, start), kept)


def test_rules_follow_dtype_and_device():
    rule = PairSTDP()
    for dtype in (torch.float32, torch.float64):
        pre, post = torch.ones(2, 4, dtype=dtype), torch.ones(2, 3, dtype=dtype)
        weight, state = rule(
            pre, post, torch.ones(3, 4, dtype=dtype), rule.initial_state(pre, post)
        )
        assert weight.dtype == state.r1.dtype == dtype
    pre, post = torch.ones(2, 4, device="meta"), torch.ones(2, 3, device="meta")
    weight, _ = rule(pre, post, torch.ones(3, 4, device="meta"), rule.initial_state(pre, post))
    assert weight.device.type == "meta"


class CorrelatedInputs(Task):
    """One neuron, twenty inputs, half of which fire together: song2000 in small."""

    def __init__(self) -> None:
        self.synapses = nn.Linear(20, 1, bias=False)
        nn.init.constant_(self.synapses.weight, 0.25)
        self.neuron = LIFBox(tau_mem_ms=10.0)
        self.rule = PairSTDP(a_plus=0.01, a_minus=0.0115, w_max=0.5)

    def modules(self) -> dict[str, nn.Module]:
        return {"synapses": self.synapses, "rule": self.rule}

    def update(self, step: Step) -> dict[str, Tensor | float]:
        together = poisson_spikes(torch.full((4, 1), 15.0), 250, 1.0, step.generator)
        alone = poisson_spikes(torch.full((4, 20), 15.0), 250, 1.0, step.generator)
        pre = torch.cat([together.expand(-1, -1, 10), alone[..., 10:]], -1)
        weight = self.synapses.weight.detach()
        membrane = self.neuron.initial_state(pre[0, :, :1])
        traces, fired = None, 0.0
        for x in pre:
            z, membrane = self.neuron(10 * x @ weight.T, membrane)
            traces = traces or self.rule.initial_state(x, z)
            weight, traces = self.rule(x, z, weight, traces)
            fired = fired + z.detach().sum()
        with torch.no_grad():
            self.synapses.weight.copy_(weight)
        return {"spikes": fired}


def test_a_task_by_this_rule_finds_the_inputs_that_fire_together(tmp_path):
    task = CorrelatedInputs()
    settings = TrainingSettings(updates=12)
    fit(task, settings, tmp_path / "run", recipe={}, seed=0, progress=False)
    weight = task.synapses.weight[0]
    assert weight[:10].mean() > weight[10:].mean() + 0.1
    assert "Song" in cite(task.rule)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: PairSTDP(bounds="sof"), UnknownNameError, "Did you mean 'soft'"),
        (lambda: PairSTDP(pairing="all"), UnknownNameError, "all_to_all"),
        (lambda: PairSTDP(a_plus=-1.0), InputError, "a_plus >= 0.*has the signs"),
        (lambda: PairSTDP(tau_plus_ms=0.0), InputError, "tau_plus_ms > 0"),
        (lambda: PairSTDP(w_min=1.0, w_max=1.0), InputError, "w_min < w_max"),
        (lambda: TripletSTDP(a3_minus=math.nan), InputError, "a3_minus >= 0"),
        (lambda: TripletSTDP(dt_ms=-1.0), InputError, "dt_ms > 0"),
    ],
)
def test_rules_that_cannot_be(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize("rule", [PairSTDP(), TripletSTDP()])
def test_shapes_that_do_not_fit(rule):
    pre, post, weight = torch.ones(2, 4), torch.ones(2, 3), torch.ones(3, 4)
    state = rule.initial_state(pre, post)
    with pytest.raises(ShapeError, match=r"axes \(post, pre\)"):
        rule(pre, post, weight.T, state)
    with pytest.raises(ShapeError, match="Flatten sheets"):
        rule(pre[None], post, weight, state)
    with pytest.raises(ShapeError, match="trace r1 of shape"):
        rule(pre, post, weight, rule.initial_state(pre[:1], post))
