"""Metamers from coarse to fine: which scales when, and that the whole is what counts in the end."""

from __future__ import annotations

import os
import signal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calcarine.errors import InputError
from calcarine.models import PortillaSimoncelli
from calcarine.probes import Metamer, mse


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Return smooth noise within [0.2, 0.8]."""
    noise = F.avg_pool2d(torch.rand(shape, generator=seeded(seed), dtype=dtype), 3, 1, 1)
    low, high = noise.amin(), noise.amax()
    return 0.2 + 0.6 * (noise - low) / (high - low)


def run(probe: Metamer, iterations: int = 200, tolerance: float = 1e-10, **more) -> Metamer:
    return probe.synthesize(iterations, tolerance, progress=False, **more)


class CoarseToFine(nn.Module):
    """Block means at three scales, with the interface of published coarse-to-fine models."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = ["coarse", "middle", 0]
        self.asked: list[list | None] = []

    def forward(self, x: Tensor, scales: list | None = None) -> Tensor:
        self.asked.append(scales)
        sizes = {"coarse": 8, "middle": 4, 0: 2}
        kept = self.scales if scales is None else scales
        return torch.cat([F.avg_pool2d(x, sizes[s]).flatten(2) for s in kept], 2)


def test_scales_together_add_up_and_reach_the_whole():
    model = CoarseToFine().eval()
    probe = run(Metamer(picture(1, 1, 32, 32), model), 400, 1e-9, scales="together")
    assert [scales for _, scales in probe.scale_changes] == [
        ["coarse"],
        ["coarse", "middle"],
        ["coarse", "middle", 0],
    ]
    assert probe.status == "converged"
    assert mse(model(probe.metamer), probe.target).max() < 1e-8
    begun = [n for n, _ in probe.scale_changes]
    assert begun == sorted(set(begun))  # every step took iterations of its own


def test_scales_separate_take_one_after_the_other_and_then_all():
    model = CoarseToFine().eval()
    probe = run(Metamer(picture(1, 1, 32, 32), model), 400, 1e-9, scales="separate")
    assert [scales for _, scales in probe.scale_changes] == [
        ["coarse"],
        ["middle"],
        [0],
        ["coarse", "middle", 0],
    ]
    assert probe.status == "converged"
    assert mse(model(probe.metamer), probe.target).max() < 1e-8


def test_steps_of_ones_own_end_with_the_whole_within_the_iterations():
    model = CoarseToFine().eval()
    probe = run(Metamer(picture(1, 1, 32, 32), model), 9, 0.0, scales=[["middle"], [0, "coarse"]])
    assert [n for n, _ in probe.scale_changes] == [0, 3 - 1, 4]
    assert [s for _, s in probe.scale_changes][-1] == model.scales
    assert probe.iterations == 9
    assert len(probe.losses.penalty) == 10


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ("sideways", "'together', 'separate'"),
        ([["coarse"], ["fine"]], "out of the model's scales"),
        ([], "out of the model's scales"),
    ],
)
def test_other_scales_are_refused(scales, message):
    with pytest.raises(InputError, match=message):
        run(Metamer(picture(1, 1, 32, 32), CoarseToFine().eval()), scales=scales)


def test_fewer_iterations_than_steps_are_refused():
    with pytest.raises(InputError, match="at least one iteration for each of the 4 steps"):
        run(Metamer(picture(1, 1, 32, 32), CoarseToFine().eval()), 3, scales="separate")


def test_models_without_scales_are_refused():
    with pytest.raises(InputError, match="Leave scales out"):
        run(Metamer(picture(1, 1, 32, 32), torch.square), scales="together")


def test_after_an_interrupt_among_the_scales_the_whole_is_what_counts(tmp_path):
    class Interrupts(CoarseToFine):
        def forward(self, x: Tensor, scales: list | None = None) -> Tensor:
            if len(self.asked) == 30 and scales is not None:
                os.kill(os.getpid(), signal.SIGINT)
            return super().forward(x, scales)

    image = picture(1, 1, 32, 32)
    probe = run(Metamer(image, Interrupts().eval()), 400, 0.0, scales="together")
    assert probe.status == "interrupted"
    assert probe.scale_changes[-1][1] != CoarseToFine().scales
    path = probe.save(tmp_path / "a.safetensors")
    for again in (probe, Metamer.load(path, CoarseToFine().eval())):
        run(again, 400, 1e-9)
        assert again.status == "converged"
        assert again.scale_changes[-1][1] == CoarseToFine().scales
        assert mse(CoarseToFine()(again.metamer), again.target).max() < 1e-8


def test_textures_go_from_coarse_to_fine():
    model = PortillaSimoncelli((64, 64), n_scales=2, n_orientations=2, spatial_corr_width=3)
    model = model.eval().requires_grad_(False)
    image = picture(1, 1, 64, 64, dtype=torch.float32)
    probe = run(Metamer(image, model), 60, 1e-9, scales="together")
    assert [n for n, _ in probe.scale_changes] == sorted(n for n, _ in probe.scale_changes)
    assert probe.scale_changes[-1][1] == list(model.scales)
    with torch.no_grad():
        first = mse(model(probe.initial), probe.target).mean()
        last = mse(model(probe.metamer), probe.target).mean()
    assert last < 0.5 * first
