"""Random numbers and data on the device that computes."""

from __future__ import annotations

import pytest
import torch

from calcarine.devices import random_source, send

CPU = torch.device("cpu")


def test_on_the_cpu_nothing_is_copied_and_no_number_is_drawn():
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    assert random_source(generator, CPU) is generator
    assert torch.equal(generator.get_state(), before)
    x = torch.arange(5)
    for device in (None, "cpu", CPU):
        assert send(x, device) is x


def test_a_tensor_goes_where_it_is_sent():
    assert send(torch.arange(5), "meta").device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_runs_generator_decides_what_is_drawn():
    device = torch.device("cuda")
    drawn = []
    for seed in (3, 3, 4):
        run = torch.Generator().manual_seed(seed)
        torch.cuda.set_sync_debug_mode("error")
        try:
            source = random_source(run, device)
            numbers = torch.rand(7, generator=source, device=device)
            sent = send(torch.arange(5.0), device)
            again = torch.rand(7, generator=random_source(run, device), device=device)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert not torch.equal(numbers, again)
        assert torch.equal(sent.cpu(), torch.arange(5.0))
        drawn.append(numbers.cpu())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
