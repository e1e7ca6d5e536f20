"""How sure a count of dimensions is: resampling, noise floor, and what is said."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from calcarine.errors import InputError
from calcarine.probes import color_matching, matching_confidence, perfect_observer
from calcarine.retina import Retina


@pytest.mark.parametrize("peaks_nm", [(560, 530), (560, 530, 419), (560, 530, 419, 506)], ids=str)
def test_a_perfect_observer_is_sure(peaks_nm):
    outcome = perfect_observer(peaks_nm, most_primaries=len(peaks_nm))
    found = matching_confidence([outcome])
    assert (found.dimension, found.runs, found.lights) == (len(peaks_nm), 1, 31)
    assert found.probability == found.shares[found.dimension - 1] == 1
    for mean, (low, high), perfect in zip(
        outcome.mean_residual, found.interval, outcome.observer_residual, strict=True
    ):
        assert low <= mean <= high
        assert (high - low > 1e-6) == (perfect > 1e-6)
    assert math.isnan(found.times_noise[0])
    assert found.share_of_observer[0] == pytest.approx(1)
    assert found.sentence().startswith(f"{len(peaks_nm)} dimensions, sure: 100% of the resamplings")


def test_the_interval_is_that_of_a_mean():
    """Of independent numbers, the mean of n has a standard error of sigma / sqrt(n)."""
    draw = torch.Generator().manual_seed(0)
    residuals = 0.5 + 0.1 * torch.randn(1, 400, generator=draw, dtype=torch.float64)
    outcome = replace(
        perfect_observer(most_primaries=1), residuals=tuple(map(tuple, residuals.tolist()))
    )
    low, high = matching_confidence([outcome]).interval[0]
    error = float(residuals.std()) / math.sqrt(400)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_seeds_that_differ_make_it_less_sure():
    outcome = perfect_observer(most_primaries=2)
    runs = [
        replace(outcome, residuals=((0.3,) * 31, (level,) * 31)) for level in (0.005, 0.012, 0.026)
    ]
    alone, pooled = matching_confidence(runs[:1]), matching_confidence(runs)
    assert (alone.dimension, alone.probability) == (2, 1)
    assert pooled.runs == 3
    # Of the 27 equally likely triples, those with a mean below 0.015 by hand: 17.
    assert pooled.probability == pytest.approx(17 / 27, abs=0.04)
    assert pooled.dimension == 2
    assert pooled.shares[2] == pytest.approx(10 / 27, abs=0.04)
    said = pooled.sentence()
    assert "2 dimensions, undecided" in said
    assert "31 lights x 3 runs (more than 2 in 3" in said


def test_a_weak_dimension_is_said_to_be_there():
    """Below the threshold, but far above the noise: the fourth dimension of a tetrachromat."""
    outcome = perfect_observer((560, 530, 419, 545), most_primaries=4)
    weak = (*outcome.residuals[:2], tuple(0.25 * r for r in outcome.residuals[2]), (0.0,) * 31)
    found = matching_confidence([replace(outcome, residuals=weak, noise_floor=(0.0005,) * 31)])
    assert (found.dimension, found.discerned) == (3, 4)
    said = found.sentence()
    assert "The cones allow more: with 3 primaries" in said
    assert "25% of what the perfect observer has, so there is a further dimension" in said
    quiet = matching_confidence([replace(outcome, residuals=weak, noise_floor=(0.02,) * 31)])
    assert "a further dimension" not in quiet.sentence()


def test_one_dimension_and_more_than_tried():
    one = matching_confidence([perfect_observer((560,), most_primaries=2)])
    assert one.dimension == 1
    assert one.sentence().startswith("1 dimension, sure")
    more = matching_confidence([perfect_observer(most_primaries=2)])
    assert more.dimension is None
    assert more.sentence().startswith("more than 2 dimensions, sure")


def by_type(eye: Retina):
    """A decoder that knows the mosaic: the mean signal of every cone type, everywhere."""

    def decode(nerve: torch.Tensor) -> torch.Tensor:
        means = (nerve * eye.mosaic).sum((2, 3)) / eye.mosaic.sum((1, 2))
        return means[:, :, None, None].expand(-1, -1, *nerve.shape[2:])

    return decode


def eye(noise: bool = True, size: int = 24) -> Retina:
    return Retina(size, sampling="uniform", inhibition=False, max_shift_px=2, noise=noise).eval()


def test_the_noise_floor_is_that_of_the_retina():
    """Photon noise 0.01 r sqrt(a) of independent cells, averaged over the cells of a type."""
    retina = eye()
    outcome = color_matching(retina, by_type(retina), most_primaries=1, noise_draws=60, border=0)
    assert len(outcome.noise_floor) == 31
    counts = retina.mosaic.double().sum((1, 2))
    from calcarine.probes.color_matching import _lights

    lights = _lights(retina.peaks_nm, outcome.wavelengths_nm, 0.5)
    # Of two looks; the mean strength of three normal numbers is near their root mean square.
    spread = (2 * (0.01**2 * lights / counts).sum(1)).sqrt() / lights.norm(dim=1)
    mean_strength = sum(r / 10 for r in range(11)) / 11
    expected = float(spread.mean()) * mean_strength
    assert outcome.mean_noise == pytest.approx(expected, rel=0.25)
    assert not retina.training
    assert color_matching(eye(noise=False), by_type(eye()), most_primaries=1).mean_noise == 0
    silent = color_matching(retina, by_type(retina), most_primaries=1, noise_draws=0)
    assert silent.noise_floor == ()
    assert math.isnan(silent.mean_noise)


def test_noise_is_reproducible():
    first, second = (
        color_matching(eye(), by_type(eye()), most_primaries=1, noise_draws=2) for _ in range(2)
    )
    assert first == second


def test_bad_input_is_refused():
    outcome = perfect_observer(most_primaries=1)
    with pytest.raises(InputError, match="at least one outcome"):
        matching_confidence([])
    with pytest.raises(InputError, match="residuals of all lights"):
        matching_confidence([replace(outcome, residuals=())])
    with pytest.raises(InputError, match="other lights, thresholds or cones"):
        matching_confidence([outcome, perfect_observer((560, 550, 419), most_primaries=1)])
    with pytest.raises(InputError, match="resamples >= 1"):
        matching_confidence([outcome], resamples=0)
