"""Movements of the eye behind a fovea, told with several hypotheses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calcarine.color import ConeSpace
from calcarine.cortex import search_movement
from calcarine.cortex.movement_search import blur_lattice
from calcarine.errors import ShapeError
from calcarine.models import ColorVision
from calcarine.retina import Retina
from calcarine.stimuli import ImagePatches


def reference() -> tuple[Tensor, Tensor, Tensor]:
    arrays = np.load(Path(__file__).parent.parent / "data" / "movement_reference.npz")
    first, second = (torch.from_numpy(arrays[f"motion_frame{n}"] / 255.0) for n in (1, 2))
    return first, second, torch.from_numpy(arrays["motion_true_px"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_reference_shifts_are_found_exactly(dtype):
    first, second, true = reference()
    first, second = (blur_lattice(x.to(dtype), 1.0) for x in (first, second))
    assert torch.equal(search_movement(first, second), true)
    assert torch.equal(search_movement(second, first), -true)


def test_items_do_not_influence_each_other():
    first, second, _ = reference()
    alone = torch.cat([search_movement(first[i : i + 1], second[i : i + 1]) for i in range(3)])
    assert torch.equal(alone, search_movement(first, second))


@pytest.mark.parametrize("size", [64, 37, 300])
def test_any_size_and_no_movement_where_nothing_can_be_seen(size):
    coarse = torch.rand(2, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    scene = F.interpolate(coarse, (size + 8, size + 8), mode="bicubic")
    first, second = scene[..., 4:-4, 4:-4], scene[..., 2:-6, 7:-1]
    assert search_movement(first, second).tolist() == [[3, -2], [3, -2]]
    grey = torch.full((1, 1, size, size), 0.5)
    assert search_movement(grey, grey).tolist() == [[0, 0]]


def test_what_is_unknown_does_not_count():
    coarse = torch.rand(1, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    scene = F.interpolate(coarse, (72, 72), mode="bicubic")
    first, second = scene[..., 4:-4, 4:-4].clone(), scene[..., 4:-4, 1:-7].clone()
    known = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    known[..., :20, :] = False
    first[..., :20, :], second[..., :20, :] = 7.0, torch.rand(20, 64) * 7
    assert search_movement(first, second, known).tolist() == [[-3, 0]]
    everywhere = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    assert torch.equal(search_movement(second, first, everywhere), search_movement(second, first))


def natural_pairs(count: int = 128) -> tuple[Retina, Tensor, Tensor]:
    """Random movements over photographs behind a fovea, with inhibition and noise."""
    eye = Retina(64)
    space, generator = ConeSpace(), torch.Generator().manual_seed(1)
    images = ImagePatches(size=eye.scene_size).draw(count, generator)
    with torch.no_grad():
        seen = eye(space.linear_to_cones(space.srgb_to_linear(images)), generator)
    return eye, seen.optic_nerve, seen.eye_shift


def test_movements_behind_a_fovea_are_exact_where_the_published_search_is_lost():
    """To the pixel of a field of view that has four times as many pixels as there are cells."""
    eye, nerve, true = natural_pairs()
    exact = {}
    for movement in ("published", "estimated"):
        cortex = ColorVision(
            size=64, inhibition="true", positions="true", movement=movement, border_rounds=3
        )
        cortex.take_facts(eye)
        torch.nn.init.zeros_(cortex.demosaicing.readout.weight)  # no percept yet: signals tell
        assert cortex.field_px == eye.window
        error = ((cortex.estimate(nerve) - true) * eye.window / 2).round().abs().amax(2)
        exact[movement] = (error == 0).double().mean().item()
    assert exact["estimated"] >= 0.95
    assert exact["published"] < exact["estimated"] - 0.05
    assert (true.abs().amax() * eye.window / 2).round() == 15


def test_pictures_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="two pictures"):
        search_movement(torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 33))
    with pytest.raises(ShapeError, match="at least 16 px"):
        search_movement(torch.rand(2, 1, 12, 32), torch.rand(2, 1, 12, 32))
