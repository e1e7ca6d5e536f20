"""How far the eye moved, told from the signals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from calcarine.color import ConeSpace
from calcarine.cortex import estimate_movement
from calcarine.errors import ShapeError
from calcarine.models import ColorVision
from calcarine.retina import Retina
from calcarine.stimuli import ImagePatches


def test_the_reference_shifts_are_found_exactly():
    arrays = np.load(Path(__file__).parent.parent / "data" / "movement_reference.npz")
    first, second = (torch.from_numpy(arrays[f"motion_frame{n}"] / 255.0) for n in (1, 2))
    true = torch.from_numpy(arrays["motion_true_px"])
    assert torch.equal(estimate_movement(first, second), true)
    assert torch.equal(estimate_movement(first.float(), second.float()), true)
    assert torch.equal(estimate_movement(second, first), -true)
    assert true.abs().sum() > 0


def test_items_do_not_influence_each_other():
    arrays = np.load(Path(__file__).parent.parent / "data" / "movement_reference.npz")
    first, second = (torch.from_numpy(arrays[f"motion_frame{n}"] / 255.0) for n in (1, 2))
    alone = torch.cat([estimate_movement(first[i : i + 1], second[i : i + 1]) for i in range(3)])
    assert torch.equal(alone, estimate_movement(first, second))


@pytest.mark.parametrize("size", [(48, 40), (33, 57), (128, 64)])
def test_any_size_and_no_movement_where_nothing_can_be_seen(size):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 1, 8, 8, generator=generator)
    scene = torch.nn.functional.interpolate(coarse, (size[0] + 8, size[1] + 8), mode="bicubic")
    first, second = scene[..., 4:-4, 4:-4], scene[..., 2:-6, 7:-1]
    assert estimate_movement(first, second).tolist() == [[3, -2], [3, -2]]
    grey = torch.full((1, 1, *size), 0.5)
    assert estimate_movement(grey, grey).tolist() == [[0, 0]]


def test_movements_of_the_eye_are_recovered_through_the_cone_mosaic():
    """Small movements over photographs, behind L, M and S cones."""
    eye = Retina(64, sampling="uniform", inhibition=False, max_shift_px=5).eval()
    generator = torch.Generator().manual_seed(0)
    space = ConeSpace()
    images = ImagePatches(size=eye.scene_size, scales=(1.0, 0.5)).draw(64, generator)
    seen = eye(space.linear_to_cones(space.srgb_to_linear(images)), generator)
    true = (seen.eye_shift[:, 0] * 32).round().long()
    found = estimate_movement(seen.optic_nerve[:, :1], seen.optic_nerve[:, 1:])
    assert (found == true).all(dim=1).float().mean() > 0.8
    assert true.abs().max() == 5
    cortex = ColorVision()
    given = cortex.loss(seen.optic_nerve, (found / 32)[:, None])
    assert torch.equal(cortex.loss(seen.optic_nerve), given)


def test_signals_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="of one shape"):
        estimate_movement(torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 17))
    with pytest.raises(ShapeError, match="at least 8 cells"):
        estimate_movement(torch.rand(2, 1, 7, 16), torch.rand(2, 1, 7, 16))
