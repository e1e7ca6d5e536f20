"""The contracts and Pathway."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from calcarine.errors import InputError
from calcarine.stage import DynamicStage, Pathway, Stage, detach_state, state_tensors


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
