"""Which models have memory, and how long their steps are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from calcarine.errors import InputError
from calcarine.probes._memory import has_memory, step_ms
from calcarine.stage import Pathway


def test_a_pathway_has_the_memory_of_its_stages(leaky, cordsnet):
    slow = leaky(torch.tensor(10.0))
    assert has_memory(slow)
    assert has_memory(cordsnet)
    assert has_memory(Pathway(flat=nn.ReLU(), slow=slow))
    assert has_memory(Pathway(inner=Pathway(slow=slow)))
    assert not has_memory(Pathway(flat=nn.ReLU()))
    assert not has_memory(nn.ReLU())
    assert not has_memory(torch.sigmoid)


def test_a_step_is_that_of_the_stages_unless_it_is_given(leaky, cordsnet):
    tau = torch.tensor(10.0)
    assert step_ms("A trial", cordsnet) == 2.0
    path = Pathway(a=leaky(tau, dt_ms=0.5), flat=nn.ReLU(), b=leaky(tau, dt_ms=0.5))
    assert step_ms("A trial", path) == 0.5
    assert step_ms("A trial", path, 4.0) == 4.0
    mixed = Pathway(a=leaky(tau, dt_ms=1.0), b=leaky(tau))
    with pytest.raises(InputError, match=r"A trial expected one time step.* 1\.0, 2\.0 ms"):
        step_ms("A trial", mixed)
    with pytest.raises(InputError, match="no stage has a dt_ms"):
        step_ms("A trial", nn.ReLU())


@pytest.mark.parametrize("given", [0.0, -1.0, float("nan"), float("inf")])
def test_a_step_that_makes_no_sense_is_refused(cordsnet, given):
    with pytest.raises(InputError, match="A trial expected dt_ms > 0"):
        step_ms("A trial", cordsnet, given)
