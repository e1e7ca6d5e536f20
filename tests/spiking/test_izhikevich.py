"""The simple model: the published update, the published firing patterns."""

from itertools import pairwise

import pytest
import torch

from calcarine import simulate
from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.simulate import Recording
from calcarine.spiking import IZHIKEVICH_PATTERNS, Izhikevich, IzhikevichState

DT_MS = 0.25


def current(
    duration_ms: float,
    level: float,
    *pulses: tuple[float, float, float],
    dt_ms: float = DT_MS,
) -> torch.Tensor:
    """Return a current of one level with pulses (start, stop, level) in ms."""
    t = torch.arange(round(duration_ms / dt_ms), dtype=torch.float64) * dt_ms
    x = torch.full_like(t, level)
    for start, stop, pulse in pulses:
        x[(t > start) & (t < stop)] = pulse
    return x[:, None, None]


def spike_times(
    name: str, x: torch.Tensor, start_mv: float | None = None, dt_ms: float = DT_MS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a pattern in the single steps in which it was published; times in ms, and v."""
    neuron = Izhikevich.preset(name, dt_ms=dt_ms, substeps=1)
    state, v = None, Recording()
    if start_mv is not None:
        start = torch.full_like(x[0], start_mv)
        state = IzhikevichState(start, IZHIKEVICH_PATTERNS[name].b * start)
    z, _ = simulate.run(neuron, x, state, record={"v": v})
    return z[:, 0, 0].nonzero()[:, 0] * dt_ms, v.values[:, 0, 0]


def step_intervals(name: str, duration_ms: float = 400.0) -> list[float]:
    drive = IZHIKEVICH_PATTERNS[name].drive
    times, _ = spike_times(name, current(duration_ms, 0.0, (20.0, 1e9, drive)))
    assert (times > 20).all()
    return times.diff().tolist()


def published_spikes(name: str, x: list[float]) -> tuple[list[int], float]:
    """Iterate as published: reset what fired, two half steps of v, one step of u."""
    a, b, c, d = IZHIKEVICH_PATTERNS[name][:4]
    v, fired = -65.0, []
    u = b * v
    for step, drive in enumerate(x):
        if v > 30:
            v, u = c, u + d
        for _ in range(2):
            v += 0.5 * (0.04 * (v * v) + 5 * v + 140 - u + drive)
        u += a * (b * v - u)
        if v > 30:
            fired.append(step)
    return fired, u + d if v > 30 else u


@pytest.mark.parametrize("name", list(IZHIKEVICH_PATTERNS)[:7])
def test_steps_of_one_ms_are_the_published_half_steps(name):
    drive = 5 + 10 * torch.rand(600, generator=torch.Generator().manual_seed(1)).double()
    neuron = Izhikevich.preset(name)
    x = drive[:, None, None]
    start = torch.full_like(x[0], -65.0)
    z, state = simulate.run(
        neuron, x, IzhikevichState(start, IZHIKEVICH_PATTERNS[name].b * start), engine="plain"
    )
    fired, u = published_spikes(name, drive.tolist())
    assert z[:, 0, 0].nonzero()[:, 0].tolist() == fired
    assert state.u.item() == pytest.approx(u, rel=1e-6)
    assert len(fired) > 10


@pytest.mark.parametrize("dt_ms", [1.0, 0.25])
@pytest.mark.parametrize("name", sorted(IZHIKEVICH_PATTERNS))
def test_the_initial_state_is_a_rest_where_there_is_one(name, dt_ms):
    neuron = Izhikevich.preset(name, dt_ms=dt_ms)
    rest = neuron.initial_state(torch.zeros(1, 2, dtype=torch.float64))
    z, after = neuron(torch.zeros(1, 2, dtype=torch.float64), rest)
    torch.testing.assert_close(after.v, rest.v)
    torch.testing.assert_close(after.u, rest.u)
    assert z.sum() == 0


def test_a_neuron_without_rest_starts_where_the_paper_starts():
    neuron = Izhikevich(offset=200.0)
    state = neuron.initial_state(torch.zeros(1, 1))
    assert state.v.item() == -65.0
    assert state.u.item() == pytest.approx(-13.0)


@pytest.mark.parametrize("name", ["regular_spiking", "tonic_spiking", "spike_frequency_adaptation"])
def test_excitatory_cells_fire_regularly_after_an_adaptation(name):
    intervals = step_intervals(name)
    assert len(intervals) > 8
    assert intervals[0] < intervals[1]
    assert intervals[0] < 0.6 * intervals[-1]
    assert max(intervals[-5:]) - min(intervals[-5:]) <= 2 * DT_MS
    assert 20 < intervals[-1] < 45


@pytest.mark.parametrize("name", ["intrinsically_bursting", "mixed_mode"])
def test_bursting_cells_begin_with_a_burst_and_go_on_with_single_spikes(name):
    intervals = step_intervals(name)
    assert max(intervals[:2]) < 6
    assert min(intervals[2:]) > 20
    assert len(intervals) > 8


@pytest.mark.parametrize("name", ["chattering", "tonic_bursting"])
def test_chattering_cells_burst_again_and_again(name):
    intervals = step_intervals(name)
    pauses = [i for i, interval in enumerate(intervals) if interval > 25]
    assert len(pauses) >= 4
    assert all(later - earlier >= 3 for earlier, later in pairwise(pauses))
    assert all(interval < 8 for i, interval in enumerate(intervals) if i not in pauses)


def test_fast_spiking_cells_fire_fast_without_adaptation():
    intervals = step_intervals("fast_spiking")
    assert 1000 / intervals[-1] > 90
    assert max(intervals[4:]) < 1.2 * min(intervals[4:])
    assert intervals[-1] < 0.4 * step_intervals("regular_spiking")[-1]


def test_low_threshold_cells_fire_fast_at_first_adapt_and_need_little():
    intervals = step_intervals("low_threshold_spiking")
    assert 1000 / intervals[0] > 200
    assert intervals[-1] > 3 * intervals[0]
    weak = current(300, 0.0, (20.0, 1e9, 1.0))
    assert len(spike_times("low_threshold_spiking", weak)[0]) > 0
    assert len(spike_times("regular_spiking", weak)[0]) == 0


def test_thalamic_cells_fire_tonically_from_rest_and_burst_when_released():
    tonic = step_intervals("thalamo_cortical")
    assert min(tonic) > 10
    times, _ = spike_times("thalamo_cortical", current(200, 0.0, (0.0, 45.0, -25.0)))
    assert (times > 45).all()
    assert len(times) >= 3
    assert times.diff()[0] < min(tonic)


def test_resonators_ring_below_threshold_and_integrators_do_not():
    pulse = current(200, 0.0, (20.0, 25.0, 0.2))
    crossings = {}
    for name in ("resonator", "subthreshold_oscillations", "regular_spiking", "integrator"):
        times, v = spike_times(name, pulse)
        assert len(times) == 0
        after = v[round(26 / DT_MS) :] - v[0]
        after = after[after.abs() > 1e-4].sign()
        crossings[name] = int((after.diff() != 0).sum())
    assert crossings["resonator"] >= 6
    assert crossings["subthreshold_oscillations"] >= 6
    assert crossings["integrator"] <= 1


def test_a_resonator_answers_pairs_at_its_own_rhythm_and_an_integrator_close_ones():
    def fires(name, level, width_ms, gap_ms):
        pulses = ((20.0, 20.0 + width_ms, level), (20.0 + gap_ms, 20.0 + gap_ms + width_ms, level))
        return len(spike_times(name, current(150, 0.0, *pulses))[0]) > 0

    assert fires("subthreshold_resonance", 0.65, 4.0, 40.0)
    assert not fires("subthreshold_resonance", 0.65, 4.0, 25.0)
    assert fires("integrator", 10.0, 2.0, 5.0)
    assert not fires("integrator", 10.0, 2.0, 10.0)


def test_phasic_cells_report_the_onset_only():
    assert len(step_intervals("phasic_spiking")) == 0
    times, _ = spike_times("phasic_spiking", current(300, 0.0, (20.0, 1e9, 0.5)))
    assert len(times) == 1
    burst = step_intervals("phasic_bursting")
    assert len(burst) >= 3
    assert max(burst) < 15


def test_excitability_of_class_1_starts_slowly_and_of_class_2_fast():
    t = torch.arange(1200, dtype=torch.float64) * DT_MS - 30
    ramp = t.clamp(min=0)[:, None, None]
    slow, _ = spike_times("class_1", 0.075 * ramp, start_mv=-60.0)
    fast, _ = spike_times("class_2", -0.5 + 0.015 * ramp, start_mv=-64.0)
    assert len(slow) > 5
    assert len(fast) > 5
    assert slow.diff()[0] > 1.5 * fast.diff()[0]
    assert slow.diff()[-1] < 0.7 * slow.diff()[0]


def test_pulses_leave_latency_rebound_and_variable_thresholds():
    times, _ = spike_times("spike_latency", current(100, 0.0, (10.0, 13.0, 7.2)))
    assert len(times) == 1
    assert times.item() > 18
    times, _ = spike_times("rebound_spike", current(200, 0.0, (20.0, 25.0, -15.0)))
    assert len(times) == 1
    assert times.item() > 25
    times, _ = spike_times("rebound_burst", current(200, 0.0, (20.0, 25.0, -15.0)))
    assert len(times) >= 3
    assert times.diff().max() < 15
    weak = ((10.0, 15.0, 1.0), (70.0, 75.0, -6.0), (80.0, 85.0, 1.0))
    times, _ = spike_times("threshold_variability", current(100, 0.0, *weak))
    assert len(times) == 1
    assert times.item() > 80


def test_a_pulse_switches_a_bistable_cell_on():
    name = "bistability"
    quiet, _ = spike_times(name, current(300, 0.24), start_mv=-61.0)
    times, _ = spike_times(name, current(300, 0.24, (37.5, 42.5, 1.24)), start_mv=-61.0)
    assert len(quiet) == 0
    assert len(times) > 4
    assert times[-1] > 250


def test_a_potential_stays_up_after_a_spike_with_negative_jump():
    times, v = spike_times("depolarizing_after_potential", current(50, 0.0, (9.0, 11.0, 20.0)))
    assert len(times) == 1
    after = v[round((times.item() + 1) / DT_MS) :]
    assert after.max() > v[0] + 5


@pytest.mark.parametrize("name", ["inhibition_induced_spiking", "inhibition_induced_bursting"])
def test_inhibition_induces_spikes(name):
    """The figure takes steps of 0.5 ms here; the cell is silent without the lower drive."""
    x = current(350, 80.0, (50.0, 250.0, 75.0), dt_ms=0.5)
    times, _ = spike_times(name, x, start_mv=-63.8, dt_ms=0.5)
    inside = (times > 50) & (times < 260)
    assert inside.sum() >= 3
    assert inside.all()


def test_constants_per_unit_equal_separate_neurons():
    names = ["regular_spiking", "chattering", "fast_spiking"]
    rows = [IZHIKEVICH_PATTERNS[name] for name in names]
    mixed = Izhikevich(**{k: [getattr(row, k) for row in rows] for k in ("a", "b", "c", "d")})
    x = torch.full((150, 2, 3), 10.0, dtype=torch.float64)
    z, _ = simulate.run(mixed, x, engine="plain")
    for unit, name in enumerate(names):
        alone, _ = simulate.run(Izhikevich.preset(name), x[:, :, unit], engine="plain")
        assert torch.equal(alone, z[:, :, unit])
    assert z.sum(0).min() > 2


def test_learned_constants_get_gradients():
    neuron = Izhikevich(learnable=("a", "d"), alpha=0.1).double()
    assert "alpha=0.1" in repr(neuron)
    z, state = simulate.run(neuron, torch.full((60, 1, 2), 12.0).double(), engine="plain")
    assert z.sum() > 2
    (z.sum() + state.u.sum()).backward()
    assert len(list(neuron.parameters())) == 2
    assert all(p.grad.isfinite().all() and (p.grad != 0).all() for p in neuron.parameters())


def test_unknown_patterns_and_impossible_settings_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'chattering'"):
        Izhikevich.preset("chatering")
    with pytest.raises(TypeError, match="tau_mem_ms"):
        Izhikevich.preset("chattering", tau_mem_ms=3.0)
    for substeps in (0, 1.5):
        with pytest.raises(InputError, match="substeps >= 1, a whole number"):
            Izhikevich(substeps=substeps)
    with pytest.raises(InputError, match="0 < dt_ms < inf"):
        Izhikevich(dt_ms=0.0)
    with pytest.raises(InputError, match="c expected finite values"):
        Izhikevich(c=float("inf"))
    neuron = Izhikevich()
    with pytest.raises(ShapeError, match=r"state of shape \(3, 2\)"):
        neuron(torch.zeros(3, 2), neuron.initial_state(torch.zeros(2, 2)))
