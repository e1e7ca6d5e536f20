from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import nn

from calcarine.errors import CheckpointError, InputError
from calcarine.training import load_weights, snapshot_ages


def test_weights_of_every_age_load_into_fresh_modules(toy, train, tmp_path):
    task = toy.ToyTask()
    train(task=task)
    assert snapshot_ages(tmp_path / "run") == (0, 5, 25, 60)
    other = toy.ToyTask()
    assert load_weights(tmp_path / "run", other.modules()) == 60
    assert torch.equal(other.net[0].weight, task.net[0].weight)
    assert torch.equal(other.scope.bias, task.scope.bias)
    errors = []
    for age in (0, 5, 25, 60):
        assert load_weights(tmp_path / "run", {"net": other.net}, update=age) == age
        errors.append((other.net[0].weight - task.target.T).norm().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 2


def test_an_age_may_also_be_that_of_a_checkpoint_and_paths_may_be_direct(toy, train, tmp_path):
    train()
    task = toy.ToyTask()
    assert load_weights(tmp_path / "run", task.modules(), update=50) == 50
    at_50 = task.net[0].weight.clone()
    assert load_weights(tmp_path / "run/checkpoints/00000050", task.modules()) == 50
    assert torch.equal(task.net[0].weight, at_50)
    assert load_weights(str(tmp_path / "run/snapshots/00000025.safetensors"), task.modules()) == 25
    assert not torch.equal(task.net[0].weight, at_50)
    with pytest.raises(InputError, match="Leave update out"):
        load_weights(tmp_path / "run/checkpoints/00000050", task.modules(), update=50)


def test_a_file_from_elsewhere_has_no_age(tmp_path):
    net = nn.Linear(2, 1)
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"net.weight": torch.ones(1, 2), "net.bias": torch.ones(1)}, path)
    assert load_weights(path, {"net": net}) is None
    assert net.weight.sum() == 2


def test_an_unknown_age_names_the_known_ones(toy, train, tmp_path):
    train()
    with pytest.raises(CheckpointError, match=r"no weights of update 7.*0, 5, 25, 50, 60"):
        load_weights(tmp_path / "run", toy.ToyTask().modules(), update=7)
    with pytest.raises(CheckpointError, match="has none"):
        load_weights(tmp_path, toy.ToyTask().modules())


def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(toy, train, tmp_path):
    train()
    deeper = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    scope = nn.Linear(3, 1)
    before = scope.weight.clone()
    with pytest.raises(CheckpointError, match=r"missing net.1.weight; missing net.1.bias"):
        load_weights(tmp_path / "run", {"scope": scope, "net": deeper})
    assert torch.equal(scope.weight, before)
    with pytest.raises(CheckpointError, match=r"unexpected net.0.bias"):
        load_weights(tmp_path / "run", {"net": nn.Sequential(nn.Linear(4, 3, bias=False))})
    with pytest.raises(
        CheckpointError, match=r"net.0.weight is \(3, 4\) in the file, \(3, 5\) here"
    ):
        load_weights(tmp_path / "run", {"net": nn.Sequential(nn.Linear(5, 3))})
    with pytest.raises(CheckpointError, match=r"no module 'scop'\. *|Did you mean 'scope'"):
        load_weights(tmp_path / "run", {"scop": scope})


def test_a_cut_snapshot_and_a_foreign_file_are_refused(toy, train, tmp_path):
    train()
    file = tmp_path / "run/snapshots/00000025.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    for path, update in ((tmp_path / "run", 25), (file, None)):
        with pytest.raises(CheckpointError, match=r"00000025.safetensors .* damaged"):
            load_weights(path, toy.ToyTask().modules(), update=update)
    foreign = tmp_path / "cat.jpg"
    foreign.write_bytes(b"\xff\xd8\xff" * 100)
    with pytest.raises(CheckpointError, match="damaged or of another kind"):
        load_weights(foreign, toy.ToyTask().modules())


def test_tied_weights_and_buffers_are_saved_and_loaded(train, tmp_path, toy):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
            self.second.weight = self.first.weight
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x):
            return self.norm(self.second(self.first(x)))

    class Task(toy.ToyTask):
        def __init__(self):
            super().__init__()
            self.tied = Tied()

        def modules(self):
            return {"tied": self.tied}

        def objectives(self):
            return {"tied": list(self.tied.parameters())}

        def losses(self, generator):
            self.count += 1
            return {"tied": (self.tied(torch.randn(8, 2, generator=generator)) - 1).square().mean()}

        def images(self):
            return {}

    task, other = Task(), Tied()
    train(task=task, updates=12, snapshots=())
    assert load_weights(tmp_path / "run", {"tied": other}) == 12
    assert torch.equal(other.second.weight, task.tied.first.weight)
    assert other.norm.num_batches_tracked == 12
