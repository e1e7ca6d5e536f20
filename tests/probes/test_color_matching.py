"""Colour matching: perfect observers, observers of known dimension, and the refinement."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.models import ColorVision
from calcarine.probes import color_matching, perfect_observer
from calcarine.probes._match_refinement import mismatch, refine_weights
from calcarine.probes.color_matching import _Observer
from calcarine.retina import Retina

PUBLISHED = {
    (560, 530): [(0.337, 0.657), (0, 0)],
    (560, 419): [(0.296, 0.998), (0, 0)],
    (530, 419): [(0.273, 0.998), (0, 0)],
    (560, 530, 419): [(0.503, 0.997), (0.267, 0.995), (0, 0)],
    (560, 550, 419): [(0.385, 0.997), (0.124, 0.325), (0, 0)],
    (560, 530, 419, 545): [(0.494, 0.995), (0.265, 0.495), (0.0375, 0.090), (0, 0)],
    (560, 530, 419, 506): [(0.549, 0.997), (0.298, 0.990), (0.0738, 0.181), (0, 0)],
}


@pytest.mark.parametrize("peaks_nm", PUBLISHED, ids=str)
def test_a_perfect_observer_has_as_many_dimensions_as_cone_types(peaks_nm):
    result = perfect_observer(peaks_nm, most_primaries=len(peaks_nm))
    for n, (mean, largest) in enumerate(PUBLISHED[peaks_nm]):
        assert result.mean_residual[n] == pytest.approx(mean, abs=0.002)
        assert result.max_residual[n] == pytest.approx(largest, abs=0.002)
    assert result.dimension == len(peaks_nm)
    assert result.verdict() == f"colour has {len(peaks_nm)} dimensions"


def retina(mosaic: str = "LMS", size: int = 16) -> Retina:
    return Retina(size, mosaic=mosaic, sampling="uniform", inhibition=False, max_shift_px=2).eval()


def by_type(eye: Retina):
    """A decoder that knows the mosaic: the mean signal of every cone type, everywhere."""
    planes = eye.mosaic[eye.mosaic.flatten(1).sum(1) > 0]

    def decode(nerve: Tensor) -> Tensor:
        means = (nerve * planes).sum((2, 3)) / planes.sum((1, 2))
        return means[:, :, None, None].expand(-1, -1, *nerve.shape[2:])

    return decode


@pytest.mark.parametrize(
    ("mosaic", "dimension"), [("L", 1), ("M", 1), ("LM", 2), ("LS", 2), ("MS", 2), ("LMS", 3)]
)
def test_a_decoder_that_knows_the_mosaic_is_a_perfect_observer(mosaic, dimension):
    eye = retina(mosaic)
    result = color_matching(eye, by_type(eye), most_primaries=3)
    assert result.dimension == dimension
    for found, best in zip(result.mean_residual, result.observer_residual, strict=True):
        assert found == pytest.approx(best, abs=1e-4)
    assert sum(value > 1e-6 for value in result.singular_values) == dimension
    ratios = result.ratio_to_observer
    assert all(math.isnan(r) or r == pytest.approx(1, abs=1e-3) for r in ratios)


def test_an_untrained_cortex_is_one_dimensional_by_what_it_can_express():
    torch.manual_seed(0)
    eye, cortex = retina(), ColorVision(size=16)
    weighted = color_matching(eye, cortex.decode, metric=cortex.identity.metric(), most_primaries=2)
    assert weighted.dimension == 1
    assert weighted.verdict() == "colour has 1 dimension"
    assert weighted.singular_values[1] < 1e-5
    unweighted = color_matching(eye, cortex.decode, most_primaries=2, refine=False)
    assert unweighted.linear_residual[0] > weighted.linear_residual[0]
    assert unweighted.singular_values[1] > 1e-3


def test_refinement_finds_matches_that_no_linear_fit_can():
    """A compressive percept is not additive; the exact match exists nevertheless."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.rand(3, 6, generator=generator, dtype=torch.double)

    def see(signals: Tensor) -> Tensor:
        return (signals @ mixing) ** 0.7

    lights = torch.rand(20, 3, generator=generator, dtype=torch.double)
    primaries = torch.eye(3, dtype=torch.double)
    scale = torch.linalg.vector_norm(see(lights), dim=1)
    start = torch.full((20, 3), 0.3, dtype=torch.double)
    before = torch.linalg.vector_norm(mismatch(see, lights, primaries, start), dim=1) / scale
    after = refine_weights(see, lights, primaries, [start], scale)
    assert before.min() > 0.05
    assert after.max() < 1e-3
    assert (after <= before).all()


def test_refinement_keeps_the_better_of_its_starts():
    see = lambda signals: signals  # noqa: E731
    lights = torch.tensor([[1.0, 2.0], [3.0, 1.0]], dtype=torch.double)
    primaries = torch.eye(2, dtype=torch.double)
    starts = [torch.zeros(2, 2, dtype=torch.double), lights.clone()]
    assert refine_weights(see, lights, primaries, starts, torch.ones(2)).max() < 1e-12


def test_negative_weights_go_to_the_side_of_the_test():
    seen = []
    lights, primaries = torch.tensor([[1.0, 1.0]]), torch.eye(2)
    mismatch(lambda s: seen.append(s) or s, lights, primaries, torch.tensor([[2.0, -3.0]]))
    left, right = seen[0]
    assert torch.equal(left, torch.tensor([1.0, 4.0]))
    assert torch.equal(right, torch.tensor([2.0, 0.0]))
    assert (seen[0] >= 0).all()


def test_darkness_is_the_origin():
    eye = retina("LM")
    observer = _Observer(eye, lambda nerve: by_type(eye)(nerve) + 7, None, 2)
    assert observer(torch.zeros(1, 3)).abs().max() < 1e-6
    assert torch.allclose(observer.dark, torch.full((1, 2), 7.0, dtype=torch.double))


def test_results_are_plain_data_and_say_when_primaries_did_not_suffice():
    eye = retina()
    result = color_matching(eye, by_type(eye), most_primaries=2, progress=(lines := []).append)
    assert result.dimension is None
    assert result.verdict() == "colour has more than 2 dimensions"
    assert json.loads(json.dumps(result.to_dict()))["dimension"] is None
    assert len(lines) == 2


def test_bad_input_is_refused():
    eye = retina()
    decode = by_type(eye)
    for wrong in (
        {"wavelengths_nm": [390, 500, 600]},
        {"wavelengths_nm": [450.5, 500, 600]},
        {"most_primaries": 31},
        {"most_primaries": 0},
        {"border": 8},
        {"border": -1},
    ):
        with pytest.raises(InputError):
            color_matching(eye, decode, **wrong)
    with pytest.raises(ShapeError, match="decode to return axes"):
        color_matching(eye, lambda nerve: nerve[:, 0])
    with pytest.raises(ShapeError, match="metric for 3 latents"):
        color_matching(eye, decode, metric=torch.eye(2))
    with pytest.raises(NonFiniteError):
        color_matching(eye, lambda nerve: decode(nerve) / 0)
    with pytest.raises(InputError, match="like darkness"):
        color_matching(eye, lambda nerve: 0 * decode(nerve))
