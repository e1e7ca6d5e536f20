"""The loop over time: three engines, one result; recordings."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from calcarine import engines, simulate
from calcarine.errors import CalcarineWarning, InputError, RunError, ShapeError, UnknownNameError
from calcarine.simulate import Recording, run
from calcarine.stage import DynamicStage, FusedStage, Pathway, state_tensors


class State(NamedTuple):
    v: Tensor


class Spiking(DynamicStage):
    """A neuron as a user would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.tensor(0.8))

    def initial_state(self, like: Tensor) -> State:
        return State(torch.zeros_like(like))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        v = self.decay * state.v + x
        z = (v > 1).to(x)
        return z, State(v * (1 - z))


class Summing(FusedStage):
    """Running sum, with a fused pass."""

    scans = 0

    def initial_state(self, like: Tensor) -> State:
        return State(torch.zeros_like(like))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return state.v + x, State(state.v + x)

    def scan(self, movie: Tensor, state: State) -> tuple[Tensor, State]:
        type(self).scans += 1
        total = torch.cumsum(torch.cat([state.v[None], movie]), dim=0)[1:]
        return total, State(total[-1])


@pytest.fixture
def movie() -> Tensor:
    return torch.rand(47, 3, 5, generator=torch.Generator().manual_seed(1))


def test_stopping_and_resuming_changes_nothing(movie):
    neuron = Spiking()
    whole, end = run(neuron, movie)
    first, state = run(neuron, movie[:17])
    rest, resumed = run(neuron, movie[17:], state)
    assert torch.equal(whole, torch.cat([first, rest]))
    assert torch.equal(end.v, resumed.v)
    assert 0 < whole.mean() < 1


def test_every_engine_gives_the_same_spikes_and_gradients(movie):
    """Without a compiler, forcing one warns and steps on; the numbers are the same either way."""
    neuron = Spiking()
    results = []
    for engine in ("plain", "compiled"):
        neuron.decay.grad = None
        x = movie.clone().requires_grad_()
        missing = engine == "compiled" and not simulate.compiler_found(movie)
        with pytest.warns(CalcarineWarning, match="plain") if missing else nullcontext():
            spikes, state = run(neuron, x, engine=engine)
        state.v.sum().backward()
        results.append((spikes, state.v, x.grad, neuron.decay.grad))
    for plain, compiled in zip(*results, strict=True):
        assert torch.allclose(plain, compiled, atol=1e-6)
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][0].sum() > 0
    assert results[0][3].abs() > 0


def test_long_movies_are_compiled_and_short_ones_are_not(movie, monkeypatch):
    compiled = []
    monkeypatch.setattr(simulate, "run_compiled", lambda s, m, t: compiled.append(len(m)) or (m, t))
    monkeypatch.setattr(simulate, "compiler_found", lambda like: True)
    run(Spiking(), movie)
    run(Spiking(), movie[:1].expand(simulate.COMPILE_FROM_STEPS, -1, -1))
    assert compiled == [simulate.COMPILE_FROM_STEPS]


def test_without_a_compiler_long_movies_run_step_by_step(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    movie = torch.rand(simulate.COMPILE_FROM_STEPS, 1, 2)
    spikes, _ = run(Spiking(), movie)
    assert torch.equal(spikes, run(Spiking(), movie, engine="plain")[0])


def test_a_failing_compiler_is_reported_and_steps_go_on(movie, monkeypatch):
    def fail(*args):
        raise torch._dynamo.exc.InternalTorchDynamoError("no luck")

    neuron = Spiking()
    monkeypatch.setitem(engines._compiled, neuron, fail)
    with pytest.warns(CalcarineWarning, match="plain steps instead"):
        spikes, _ = run(neuron, movie, engine="compiled")
    assert torch.equal(spikes, run(neuron, movie, engine="plain")[0])


def test_a_mistake_in_the_stage_is_not_taken_for_a_compiler_failure(movie):
    class Wrong(Spiking):
        def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(Wrong(), movie, engine="plain")


def test_a_fused_scan_is_used_and_agrees(movie):
    before = Summing.scans
    fused, end = run(Summing(), movie)
    assert Summing.scans == before + 1
    plain, plain_end = run(Summing(), movie, engine="plain")
    assert torch.allclose(fused, plain, atol=1e-5)
    assert torch.allclose(end.v, plain_end.v, atol=1e-5)


def test_parts_of_a_pathway_take_their_own_fastest_way(movie, monkeypatch):
    monkeypatch.setattr(simulate, "SLAB_STEPS", 10)
    path = Pathway(sum=Summing(), gain=nn.ReLU(), spike=Spiking())
    before = Summing.scans
    fast, end = run(path, movie)
    assert Summing.scans == before + 5
    plain, plain_end = run(path, movie, engine="plain")
    assert torch.equal(fast, plain)
    assert fast.sum() > 0
    for a, b in zip(state_tensors(end), state_tensors(plain_end), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_stage_without_memory_sees_frame_by_frame(movie):
    outputs, state = run(nn.Linear(5, 2), movie)
    assert outputs.shape == (47, 3, 2)
    assert state is None


def test_recording_keeps_outputs_and_states_of_inner_stages(movie, tmp_path):
    path = Pathway(gain=nn.ReLU(), spike=Spiking())
    voltage, spikes = Recording(tmp_path / "v.npy"), Recording(every=10)
    outputs, _ = run(path, movie, record={"spike.v": voltage, "spike": spikes})
    assert torch.equal(spikes.values, outputs[::10])
    assert voltage.values.shape == movie.shape
    assert isinstance(voltage.values, np.memmap)
    manual = torch.zeros(3, 5)
    for frame, kept in zip(movie, torch.from_numpy(np.array(voltage.values)), strict=True):
        _, state = path.spike(frame, State(manual))
        manual = state.v
        assert torch.equal(manual, kept)


def test_recording_the_state_of_the_model_itself(movie):
    voltage = Recording()
    _, end = run(Spiking(), movie, record={"v": voltage})
    assert torch.equal(voltage.values[-1], end.v)


def test_a_failure_leaves_no_half_written_recording(movie, tmp_path):
    class Failing(Spiking):
        def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
            if state.v.sum() > 20:
                raise ArithmeticError("stop")
            return x, State(state.v + x)

    with pytest.raises(ArithmeticError):
        run(Failing(), movie, record={"v": Recording(tmp_path / "v.npy")})
    assert list(tmp_path.iterdir()) == []


def test_recordings_say_what_is_wrong(movie, tmp_path):
    neuron = Pathway(spike=Spiking())
    with pytest.raises(UnknownNameError, match="Did you mean 'spike'"):
        run(neuron, movie, record={"spikes": Recording()})
    with pytest.raises(UnknownNameError, match=r"Known: spike, spike\.v"):
        run(neuron, movie, record={"spike.u": Recording()})
    with pytest.raises(InputError, match="ending in"):
        Recording(tmp_path / "v.txt")
    with pytest.raises(InputError, match="every >= 1"):
        Recording(every=0)
    (tmp_path / "v.npy").write_bytes(b"mine")
    with pytest.raises(InputError, match="overwrite"):
        Recording(tmp_path / "v.npy")
    used = Recording()
    with pytest.raises(RunError, match="holds nothing yet"):
        _ = used.values
    run(neuron, movie, record={"spike": used})
    with pytest.raises(InputError, match="already holds a run"):
        run(neuron, movie, record={"spike": used})
    with pytest.raises(InputError, match="step by step"):
        run(neuron, movie, record={"spike": Recording()}, engine="compiled")


def test_a_stage_that_takes_no_part_cannot_be_recorded(movie):
    class Idle(Spiking):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.ReLU()

    with pytest.raises(RunError, match="took no part"):
        run(Idle(), movie, record={"unused": Recording()})


def test_bad_movies_and_engines_are_refused(movie):
    with pytest.raises(ShapeError, match="at least one time step"):
        run(Spiking(), movie[:0])
    with pytest.raises(ShapeError, match=r"\(time, batch"):
        run(Spiking(), torch.rand(5))
    with pytest.raises(InputError, match="defines no scan"):
        run(Spiking(), movie, engine="scan")
    with pytest.raises(UnknownNameError, match="engine"):
        run(Spiking(), movie, engine="scna")


def test_networks_do_not_share_anything(movie):
    """Two networks of one class, run in threads, give what each gives alone."""
    neurons = [Spiking(), Spiking()]
    neurons[1].decay.data.fill_(0.1)
    alone = [run(n, movie)[0] for n in neurons]
    together: dict[int, Tensor] = {}

    def work(index: int) -> None:
        together[index] = run(neurons[index], movie)[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(alone[i], together[i]) for i in range(2))
    assert not torch.equal(alone[0], alone[1])


class Noisy(Spiking):
    """Draws random numbers, and holds a tensor that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        v = self.decay * state.v + self.gain * x * torch.rand_like(x)
        return torch.tanh(v), State(v)


@pytest.mark.parametrize("steps", [1, 10, 47, 100])
@pytest.mark.parametrize("make", [Noisy, Summing, lambda: Pathway(sum=Summing(), end=Noisy())])
def test_running_segments_again_gives_the_same_gradients(movie, make, steps):
    stage = make().double()
    found = []
    for settings in ({}, {"checkpoint_steps": steps}):
        torch.manual_seed(0)
        x = movie.double().requires_grad_()
        before = stage.initial_state(x[0])
        outputs, state = run(stage, x, before, **settings)
        last = state_tensors(state)[-1]
        leaves = [x, *stage.parameters(), *(m.gain for m in stage.modules() if hasattr(m, "gain"))]
        loss = (outputs * torch.linspace(-1, 1, 47)[:, None, None]).sum() + last.sum()
        found.append((outputs, last, torch.rand(3), torch.autograd.grad(loss, leaves)))
    (a, v, drawn, grads), (b, w, drawn_again, same) = found
    assert torch.equal(a, b)
    assert torch.equal(v, w)
    assert torch.equal(drawn, drawn_again)
    assert torch.equal(grads[0], same[0]) or isinstance(stage, Summing)
    for one, other in zip(grads, same, strict=True):
        assert one.abs().sum() > 0
        assert torch.allclose(one, other, rtol=1e-12)


def test_running_segments_again_keeps_little(movie):
    """Autograd keeps the movie and what one step needs, instead of what every step needs."""
    kept = {}
    for steps in (0, 8):
        sizes = []
        x = movie[:40].clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            run(Noisy(), x, checkpoint_steps=steps)
        kept[steps] = sum(sizes)
    assert kept[0] > 80 * 15
    assert kept[8] < 50 * 15


def test_checkpoints_refuse_what_they_cannot_do(movie):
    with pytest.raises(InputError, match="checkpoint_steps >= 0"):
        run(Spiking(), movie, checkpoint_steps=-1)
    with pytest.raises(InputError, match="while recording"):
        run(Spiking(), movie, record={"v": Recording()}, checkpoint_steps=5)
    stage = Spiking()
    x = movie.clone()
    swapped = {"decay": torch.tensor(0.5, requires_grad=True)}
    _, state = torch.func.functional_call(
        _Run(stage), {f"stage.{k}": v for k, v in swapped.items()}, (x,)
    )
    with pytest.raises(RunError, match="other parameters in the backward pass"):
        state.v.sum().backward()


class _Run(nn.Module):
    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor) -> tuple[Tensor, State]:
        return run(self.stage, x, checkpoint_steps=5)
