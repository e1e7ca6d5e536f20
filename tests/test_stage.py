"""The contracts and Pathway."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from calcarine.errors import InputError
from calcarine.stage import DynamicStage, Pathway, Stage, detach_state, state_tensors, steps_of


class Leak(NamedTuple):
    v: Tensor


class Leaky(DynamicStage):
    """v <- 0.9 v + x; puts out v."""

    def initial_state(self, like: Tensor) -> Leak:
        return Leak(torch.zeros_like(like))

    def forward(self, x: Tensor, state: Leak) -> tuple[Tensor, Leak]:
        v = 0.9 * state.v + x
        return v, Leak(v)


class Double(Stage):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_a_pathway_is_its_stages_in_order():
    path = Pathway(gain=Double(), first=Leaky(), second=Leaky())
    x = torch.ones(2, 3)
    state = path.initial_state(x)
    y, state = path(x, state)
    y, state = path(x, state)
    first = [2.0, 0.9 * 2 + 2]
    assert torch.allclose(y, torch.full((2, 3), 0.9 * first[0] + first[1]))
    assert path.second is dict(path.named_modules())["second"]
    assert [s is None for s in state.stages] == [True, False, False]


def test_a_pathway_without_memory_is_called_like_a_stage():
    path = Pathway(a=Double(), b=nn.ReLU())
    assert torch.equal(path(torch.tensor([[-1.0, 2.0]])), torch.tensor([[0.0, 4.0]]))


def test_a_pathway_with_memory_asks_for_its_state():
    with pytest.raises(InputError, match=r"leak has memory.*initial_state"):
        Pathway(leak=Leaky())(torch.ones(1, 1))


def test_pathways_nest():
    inner = Pathway(leak=Leaky())
    outer = Pathway(inner=inner, gain=Double())
    x = torch.ones(1, 2)
    y, state = outer(x, outer.initial_state(x))
    assert torch.equal(y, 2 * x)
    assert len(state_tensors(state)) == 1


@pytest.mark.parametrize("stages", [{}, {"f": torch.sin}])
def test_a_pathway_refuses_what_is_not_a_stage(stages):
    with pytest.raises(InputError, match="Pathway expected"):
        Pathway(**stages)


def test_detach_state_cuts_the_graph_and_keeps_the_type():
    x = torch.ones(2, requires_grad=True)
    cut = detach_state((Leak(2 * x), None, (3 * x,)))
    assert isinstance(cut[0], Leak)
    assert not any(t.requires_grad for t in state_tensors(cut))
    assert cut[1] is None
    assert torch.equal(cut[2][0], torch.full((2,), 3.0))


@pytest.mark.parametrize(
    ("time_ms", "dt_ms", "steps"),
    [(200.0, 2.0, 100), (0.0, 2.0, 0), (0.3, 0.1, 3), (1e6 / 3, 1 / 3, 10**6), (7, 3.5, 2)],
)
def test_a_time_is_so_many_steps(time_ms, dt_ms, steps):
    assert steps_of("Leaky", "off_ms", time_ms, dt_ms) == steps


@pytest.mark.parametrize(
    ("time_ms", "least", "example"),
    [
        (3.0, 0, 4), (199.0, 0, 200), (0.0, 1, 2), (-4.0, 0, 2), (2.0, 3, 6),
        (float("nan"), 0, 2), (float("inf"), 1, 2),
    ],
)  # fmt: skip
def test_a_time_between_steps_is_refused_with_an_example(time_ms, least, example):
    message = (
        f"Leaky expected off_ms as a multiple of the step of 2 ms, at least {2 * least} ms, got "
        f"{time_ms!r}. Choose off_ms to be a multiple of dt_ms=2, for example {example}."
    )
    with pytest.raises(InputError) as caught:
        steps_of("Leaky", "off_ms", time_ms, 2.0, least=least)
    assert str(caught.value) == message
    assert steps_of("Leaky", "off_ms", example, 2.0, least=least) == example / 2
