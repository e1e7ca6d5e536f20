"""Maximum-differentiation competition: the closed form of two quadratic metrics, and real ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.probes import (
    MADCompetition,
    Metamer,
    l2_norm,
    mad_competition,
    ms_ssim,
    mse,
    ssim,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    noise = F.avg_pool2d(torch.rand(shape, generator=seeded(), dtype=dtype), 3, 1, 1)
    return 0.25 + 0.5 * (noise - noise.amin()) / (noise.amax() - noise.amin())


def dissimilarity(x: Tensor, y: Tensor) -> Tensor:
    return 1 - ssim(x, y)


def weighted(weights: Tensor):
    """Return the metric sum w (x - y)^2 of each image."""
    return lambda x, y: (weights * (x - y).square()).flatten(1).sum(1)


@pytest.mark.parametrize("minmax", ["min", "max"])
@pytest.mark.parametrize("optimizer", ["lbfgs"])
def test_two_quadratic_forms_end_at_the_generalised_eigenvector(minmax, optimizer):
    """Extremes of d'Ad with d'Bd held are b l, l the extreme eigenvalues of B^-1 A."""
    a = 1 + 4 * torch.rand(1, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
    b = 1 + 4 * torch.rand(1, 1, 8, 8, generator=seeded(2), dtype=torch.float64)
    image = torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64)
    probe = MADCompetition(image, weighted(a), weighted(b), minmax, penalty=None)
    probe.synthesize(3000, 1e-8, optimizer, progress=False)
    held = weighted(b)(image, probe.initial)
    ratios = a / b
    expected = held * (ratios.amin() if minmax == "min" else ratios.amax())
    assert probe.reference_change < 1e-3
    torch.testing.assert_close(weighted(a)(image, probe.mad_image), expected, rtol=0.02, atol=0)
    best = ratios.argmin() if minmax == "min" else ratios.argmax()
    share = (probe.mad_image - image).square().flatten()
    assert share[best] > 0.9 * share.sum()


@pytest.fixture(scope="module")
def four() -> dict[str, MADCompetition]:
    image = picture(1, 1, 40, 36, dtype=torch.float32)
    return mad_competition(image, dissimilarity, mse, max_iter=400, progress=False)


# The penalty lets pixels leave the range by a little, which SSIM remarks upon.
@pytest.mark.filterwarnings("ignore:ssim is made for values in")
@pytest.mark.parametrize("name", ["first_min", "first_max", "second_min", "second_max"])
def test_one_metric_moves_while_the_other_is_held(four, name):
    probe = four[name]
    driven, held = (dissimilarity, mse) if name.startswith("first") else (mse, dissimilarity)
    before = driven(probe.image, probe.initial)[0, 0], held(probe.image, probe.initial)[0, 0]
    after = driven(probe.image, probe.mad_image)[0, 0], held(probe.image, probe.mad_image)[0, 0]
    assert after[1] == pytest.approx(float(before[1]), rel=1e-3)
    assert probe.reference_change < 1e-3
    change = after[0] / before[0]
    assert change < 0.7 if name.endswith("min") else change > 1.3
    assert probe.mad_image.min() > -0.05
    assert probe.mad_image.max() < 1.05
    torch.testing.assert_close(probe.losses.optimized[-1], after[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(probe.losses.reference[-1], after[1], rtol=1e-4, atol=0)
    assert len(probe.losses.penalty) == probe.iterations + 1


def test_all_four_begin_alike(four):
    assert {probe.minmax for probe in four.values()} == {"min", "max"}
    first = four["first_min"].initial
    assert all(torch.equal(first, probe.initial) for probe in four.values())
    pairs = [four["first_min"], four["first_max"]]
    assert not torch.allclose(pairs[0].mad_image, pairs[1].mad_image, atol=0.05)


def test_enough_iterations_end_in_converged(four):
    assert "converged" in {probe.status for probe in four.values()}
    assert {probe.status for probe in four.values()} <= {"converged", "max_iter"}


def test_a_fixed_tradeoff_leaves_a_compromise():
    """The reference is off by what the weight allows: about half of it for twice the weight."""
    image = picture(1, 1, 16, 16)
    changes = []
    for tradeoff in (5.0, 10.0):
        probe = MADCompetition(image, dissimilarity, mse, "max", tradeoff)
        probe.synthesize(600, 1e-6, progress=False)
        changes.append(probe.reference_change)
    assert changes[0] > 5e-3
    assert 1.4 < changes[0] / changes[1] < 2.8


def test_batches_are_driven_side_by_side():
    image = torch.cat([picture(1, 1, 16, 16), 1 - picture(1, 1, 16, 16)])
    probe = MADCompetition(image, dissimilarity, mse, "max").synthesize(300, progress=False)
    held = mse(image, probe.mad_image) / mse(image, probe.initial)
    torch.testing.assert_close(held, torch.ones(2, 1).double(), atol=2e-3, rtol=0)
    assert (dissimilarity(image, probe.mad_image) > dissimilarity(image, probe.initial)).all()


def test_images_are_stored_when_asked():
    probe = MADCompetition(picture(1, 1, 16, 16), dissimilarity, mse, "min")
    probe.synthesize(100, 0.0, store_every=30, progress=False)
    assert probe.history.iterations == (0, 30, 60, 90, 100)
    assert torch.equal(probe.history.images[-1], probe.mad_image)


def test_seeds_are_reproducible():
    image = picture(1, 1, 16, 16)
    found = [
        MADCompetition(image, dissimilarity, mse, "min", generator=seeded(s))
        .synthesize(20, progress=False)
        .mad_image
        for s in (0, 0, 1)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=0.01)


@pytest.mark.parametrize("tradeoff", ["auto", 8.0])
def test_saved_in_the_middle_it_goes_on(tmp_path, tradeoff):
    image = picture(2, 1, 16, 16)
    whole = MADCompetition(image, dissimilarity, mse, "max", tradeoff)
    half = MADCompetition(image, dissimilarity, mse, "max", tradeoff)
    for probe in (whole, half):
        probe.synthesize(24, 0.0, store_every=10, progress=False)
    path = half.save(tmp_path / "mad.safetensors")
    read = MADCompetition.load(path, dissimilarity, mse)
    assert (read.minmax, read.tradeoff, read.status) == ("max", tradeoff, half.status)
    assert torch.equal(read.mad_image, half.mad_image)
    for probe in (whole, read):
        probe.synthesize(16, 0.0, store_every=10, progress=False)
    assert torch.equal(read.mad_image, whole.mad_image)
    assert torch.equal(read.losses.reference, whole.losses.reference)
    assert read.history.iterations == whole.history.iterations
    with pytest.raises(InputError, match="other metrics"):
        MADCompetition.load(path, mse, dissimilarity)
    with pytest.raises(InputError, match="expected one of 'metamer'"):
        Metamer.load(path, lambda x: x)


@pytest.mark.parametrize("similarity", [ssim, lambda x, y: ssim(x, y).mean()])
def test_similarities_are_refused_with_advice(similarity):
    image = picture(1, 1, 32, 32)
    with pytest.raises(InputError, match=r"1 - ssim\(a, b\)"):
        MADCompetition(image, similarity, mse, "min")
    with pytest.raises(InputError, match="The reference metric"):
        MADCompetition(image, mse, similarity, "min")


def test_a_metric_with_a_corner_at_the_image_is_fine():
    """The root of the mean square has no slope between identical images, where none begins."""
    image = picture(1, 1, 16, 16)
    probe = MADCompetition(image, dissimilarity, lambda x, y: mse(x, y).sqrt(), "min")
    probe.synthesize(200, progress=False)
    assert probe.reference_change < 2e-3


def test_published_metrics_compete():
    image = picture(1, 1, 192, 180, dtype=torch.float32)
    probe = MADCompetition(image, lambda x, y: 1 - ms_ssim(x, y), l2_norm, "max")
    probe.synthesize(8, progress=False)
    assert probe.losses.optimized[-1] > probe.losses.optimized[0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"minmax": "up"}, InputError, "'min' or 'max'"),
        ({"tradeoff": 0.0}, InputError, "weight > 0"),
        ({"tradeoff": "much"}, InputError, "'auto' or a weight"),
        ({"penalty_weight": -1.0}, InputError, "penalty_weight >= 0"),
        ({"optimized_metric": lambda x, y: mse(x, y).detach()}, InputError, "differentiable"),
        ({"reference_metric": lambda x, y: mse(x, y).round()}, InputError, "gradient|0"),
        ({"reference_metric": lambda x, y: 0.0}, InputError, "tensor of real numbers"),
        ({"initial": picture(1, 1, 16, 16)}, InputError, "noisier"),
        ({"initial": picture(1, 1, 16, 15)}, ShapeError, "initial of the image's shape"),
        ({"image": picture(1, 16, 16)}, InputError, "batch, channel, height, width"),
        ({"image": "photo"}, InputError, "image as a tensor"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    settings = {
        "image": picture(1, 1, 16, 16),
        "optimized_metric": dissimilarity,
        "reference_metric": mse,
        "minmax": "min",
    } | change
    with pytest.raises(error, match=message):
        MADCompetition(**settings)
