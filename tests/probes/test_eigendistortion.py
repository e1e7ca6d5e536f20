"""Eigendistortions against closed forms, reference spectra and matrices written out."""

from __future__ import annotations

import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from calcarine import lgn
from calcarine.errors import FileFormatError, InputError, NonFiniteError
from calcarine.probes import Eigendistortion

METHODS = ["exact", "lanczos"]


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parents[1] / "data" / "lgn.npz") as arrays:
        return {n: torch.from_numpy(arrays[n]) for n in arrays if n[:3] == "fim" or n == "small"}


def front_end(name: str) -> nn.Module:
    if name == "center_surround":
        model = lgn.CenterSurround(5, 0.8, 1.6, pad_mode="circular")
    elif name == "luminance_gain_control":
        model = lgn.LuminanceGainControl(
            7, pad_mode="circular", luminance_scalar=14.95, luminance_std=1.2,
            center_std=0.7, surround_std=1.4,
        )  # fmt: skip
    else:
        model = lgn.OnOff(
            7, pad_mode="circular", luminance_scalar=(3.2637, 14.3961),
            contrast_scalar=(7.3405, 16.7423),
            center_std=(0.7, 0.4), surround_std=(1.8, 1.1), luminance_std=(2.0, 1.1),
            contrast_std=(1.5, 1.2),
        )  # fmt: skip
    return model.eval().requires_grad_(False).double()


def frozen(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)


class Scale(nn.Module):
    """A diagonal Jacobian, so that the eigenvalues are the squares of the gains."""

    def __init__(self, gains: Tensor) -> None:
        super().__init__()
        self.register_buffer("gains", gains)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gains


def find(image: Tensor, model, *args, **settings) -> Eigendistortion:
    return Eigendistortion(image, model).synthesize(*args, progress=False, **settings)


def assert_sound(found: Eigendistortion, tolerance: float) -> None:
    """Unit vectors, orthogonal to each other, descending values, small residuals."""
    vectors = found.eigendistortions.flatten(1).double()
    eps = torch.finfo(found.image.dtype).eps
    gram = vectors @ vectors.mT
    # At the small end the vectors of one call are Ritz vectors of one basis: orthogonal too.
    assert (gram - torch.eye(len(gram)).to(gram)).abs().max() < 100 * eps
    k = found.k
    assert (found.eigenvalues[:k].diff() <= 0).all()
    assert (found.eigenvalues[k:].diff() <= 0).all()
    assert (found.residuals <= tolerance).all()
    assert found.status == "converged"
    assert found.vector_status == ("converged",) * (2 * k)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["center_surround", "luminance_gain_control", "on_off"])
def test_extremes_equal_the_reference_spectra(name, method, k, reference):
    """All eigenvalues were computed independently; four of the largest ones are equal."""
    spectrum = reference[f"fim_eig_{name}"]
    found = find(reference["small"], front_end(name), k, method, tolerance=1e-7)
    expected = torch.cat([spectrum[-k:].flip(0), spectrum[:k].flip(0)])
    assert (found.eigenvalues - expected).abs().max() < 1e-6 * spectrum[-1]
    assert (found.eigenvalues >= 0).all()
    assert_sound(found, 1e-7)


@pytest.mark.parametrize("name", ["center_surround", "luminance_gain_control", "on_off"])
def test_the_exact_method_finds_the_whole_spectrum(name, reference):
    spectrum = reference[f"fim_eig_{name}"]
    found = find(reference["small"], front_end(name), 128, "exact")
    assert (found.eigenvalues - spectrum.flip(0)).abs().max() < 1e-6 * spectrum[-1]
    assert_sound(found, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(64, 64), (45, 60)])
def test_a_filter_gives_its_squared_transfer_function(size, dtype):
    """Shift-invariant: eigenvalues |H(f)|^2, eigenvectors gratings of the extreme frequencies."""
    model = frozen(lgn.CenterSurround(31, 1.962, 4.235, pad_mode="circular"))
    impulse = torch.zeros(1, 1, *size, dtype=torch.float64)
    impulse[..., 0, 0] = 1
    gain = torch.fft.fft2(model.double()(impulse))[0, 0].abs().square()
    found = find(torch.rand(1, 1, *size, dtype=dtype), model.to(dtype), tolerance=1e-4)
    top = gain.max()
    assert found.method == "lanczos"
    assert abs(found.eigenvalues[0] - top) < 1e-4 * top
    assert 0 <= found.eigenvalues[1] - gain.min() < 1e-4 * top
    power = torch.fft.fft2(found.eigendistortions.double()).abs().square()[:, 0]
    power = power / power.sum((1, 2), keepdim=True)
    assert power[0][gain > 0.97 * top].sum() > 0.999  # residual 1e-4 against a gap of 0.03
    assert power[1][gain < 0.01 * top].sum() > 0.999
    assert_sound(found, 1e-4)


@pytest.mark.parametrize("pad_mode", ["circular", "reflect"])
@pytest.mark.parametrize("model", ["gaussian", "center_surround", "luminance_gain_control"])
def test_front_ends_of_the_paper_at_full_size(model, pad_mode):
    """255 x 301: both ends within 1e-3, judged by products in float64."""
    made = {
        "gaussian": lambda: lgn.Gaussian(31, 3.0, pad_mode=pad_mode),
        "center_surround": lambda: lgn.CenterSurround(31, 1.962, 4.235, pad_mode=pad_mode),
        "luminance_gain_control": lambda: lgn.LuminanceGainControl(
            31, pad_mode=pad_mode, pretrained=True
        ),
    }[model]()
    frozen(made)
    image = torch.rand(1, 1, 255, 301, generator=torch.Generator().manual_seed(2))
    found = find(image, made)
    assert_sound(found, 1e-3)
    judge = Eigendistortion(image.double(), made.double())
    _, residuals = judge._judge(found.eigendistortions.double().reshape(1, 2, -1))
    assert (residuals <= 1e-3).all()
    assert found.eigenvalues[1] < 1e-4 * found.eigenvalues[0]


@pytest.mark.parametrize("method", METHODS)
def test_diagonal_model_has_its_gains_squared(method):
    gains = torch.linspace(0.1, 2.0, 99, dtype=torch.float64)
    gains = gains[torch.randperm(99, generator=torch.Generator().manual_seed(0))].reshape(1, 9, 11)
    found = find(torch.rand(1, 1, 9, 11, dtype=torch.float64), Scale(gains), 3, method,
                 tolerance=1e-10)  # fmt: skip
    ordered = gains.flatten().square().sort(descending=True).values
    torch.testing.assert_close(found.eigenvalues, torch.cat([ordered[:3], ordered[-3:]]))
    pixels = found.eigendistortions.flatten(1).argmax(1)  # the largest component is positive
    torch.testing.assert_close(gains.flatten()[pixels].square(), found.eigenvalues)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("copies", [2, 5, 8])
def test_copies_of_an_eigenvalue_are_told_apart(method, copies):
    gains = torch.full((400,), 0.5, dtype=torch.float64)
    gains[::13][:copies] = 2.0
    gains[1::31][:copies] = 0.1
    image = torch.rand(1, 1, 20, 20, dtype=torch.float64)
    found = find(image, Scale(gains.reshape(1, 20, 20)), copies, method, tolerance=1e-8)
    torch.testing.assert_close(found.eigenvalues[:copies], gains.new_full((copies,), 4.0))
    torch.testing.assert_close(found.eigenvalues[copies:], gains.new_full((copies,), 0.01))
    assert_sound(found, 1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_rank_deficient_models(method, dtype):
    """Two directions are seen, all others not at all."""
    seen = torch.zeros(2, 400, dtype=dtype)
    seen[0, 5], seen[1, 200:204] = 3.0, 0.5

    def model(x: Tensor) -> Tensor:
        return (x.flatten(1) @ seen.mT)[:, None]  # a representation with three axes

    found = find(torch.rand(1, 1, 20, 20, dtype=dtype), model, 3, method, tolerance=1e-5)
    expected = torch.tensor([9.0, 1.0, 0.0, 0.0, 0.0, 0.0], dtype=dtype)
    torch.testing.assert_close(found.eigenvalues, expected, atol=1e-5, rtol=1e-5)
    assert_sound(found, 1e-5)


@pytest.mark.parametrize("method", [*METHODS, "power"])
def test_a_model_that_scales_everything_alike(method):
    found = find(torch.rand(1, 1, 8, 6), lambda x: 3 * x, 2, method)
    torch.testing.assert_close(found.eigenvalues, torch.full((4,), 9.0))
    assert_sound(found, 1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_complex_representations_count_both_parts(method):
    """A unitary transform of a diagonal map: the gains squared."""
    gains = torch.linspace(1, 3, 60, dtype=torch.float64).reshape(1, 6, 10)

    def model(x: Tensor) -> Tensor:
        return torch.fft.fft2(x * gains, norm="ortho")

    found = find(torch.rand(1, 1, 6, 10, dtype=torch.float64), model, method=method,
                 tolerance=1e-6)  # fmt: skip
    torch.testing.assert_close(found.eigenvalues, gains.new_tensor([9.0, 1.0]))


def opponent(x: Tensor) -> Tensor:
    """Luminance and one opponent channel of a colour image, squared."""
    return torch.stack([x.mean(1), 0.2 * (x[:, 0] - x[:, 1])], dim=1).square()


@pytest.mark.parametrize("method", METHODS)
def test_colour_images(method):
    image = torch.rand(1, 3, 17, 24, dtype=torch.float64) + 0.1
    found = find(image, opponent, 2, method, tolerance=1e-4)
    assert found.eigendistortions.shape == (4, 3, 17, 24)
    jacobian = torch.autograd.functional.jacobian(opponent, image).reshape(-1, image.numel())
    spectrum = torch.linalg.svdvals(jacobian).square()
    torch.testing.assert_close(found.eigenvalues[:2], spectrum[:2], rtol=1e-4, atol=0)
    assert found.eigenvalues[2:].max() < 1e-4 * spectrum[0]  # some change of colour is unseen
    assert_sound(found, 1e-4)


@pytest.mark.parametrize("method", [*METHODS, "power"])
def test_a_batch_equals_its_images_one_by_one(method, reference):
    small = reference["small"]
    images = torch.cat([small, small.flip(-1).square()])
    model = front_end("luminance_gain_control")
    settings = {"tolerance": 1e-6, "max_iter": 20 if method == "power" else 1000}
    both = find(images, model, 2, method, **settings)
    assert both.eigendistortions.shape == (2, 4, 1, 16, 16)
    assert both.eigenvalues.shape == both.residuals.shape == (2, 4)
    assert len(both.vector_status) == 4
    for i in range(2):
        one = find(images[i : i + 1], model, 2, method, **settings)
        scale = one.eigenvalues[0]
        assert (both.eigenvalues[i] - one.eigenvalues).abs().max() < 1e-6 * scale
        alike = (both.eigendistortions[i] * one.eigendistortions).flatten(1).sum(1).abs()
        assert alike[:2].min() > 1 - 1e-6


def test_images_of_a_batch_do_not_disturb_each_other(reference):
    """The strong response to one image leaves the small end of the other one intact."""
    images = torch.cat([reference["small"], 100 * reference["small"]])

    def model(x: Tensor) -> Tensor:
        return x.square()

    found = find(images, model, 1, "lanczos", tolerance=1e-8)
    expected = (2 * images).square().flatten(1)
    ends = torch.stack([expected.amax(1), expected.amin(1)], dim=1)
    torch.testing.assert_close(found.eigenvalues, ends, rtol=1e-5, atol=1e-7)


def test_power_iteration_approaches_the_same_ends(reference):
    model, image = front_end("luminance_gain_control"), reference["small"]
    spectrum = reference["fim_eig_luminance_gain_control"]
    found = find(image, model, 2, "power", tolerance=1e-3, max_iter=5000)
    assert_sound(found, 1e-3)
    expected = torch.cat([spectrum[-2:].flip(0), spectrum[:2].flip(0)])
    assert (found.eigenvalues - expected).abs().max() < 1e-2 * spectrum[-1]
    assert found.method == "power"
    faster = find(image, model, 2, "lanczos", tolerance=1e-3)
    assert faster.products < found.products / 5


def test_auto_is_exact_for_few_components():
    assert find(torch.rand(1, 1, 32, 32), lambda x: x.square()).method == "exact"
    assert find(torch.rand(1, 1, 32, 33), lambda x: x.square()).method == "lanczos"


def test_equal_generators_give_equal_vectors():
    model = frozen(lgn.Gaussian(7, 1.5))
    image = torch.rand(1, 1, 40, 40)

    def once(seed: int) -> Tensor:
        return find(image, model, generator=torch.Generator().manual_seed(seed)).eigendistortions

    assert torch.equal(once(3), once(3))
    assert not torch.equal(once(3), once(4))
    assert torch.equal(find(image, model).eigendistortions, find(image, model).eigendistortions)


@pytest.mark.parametrize("method", ["lanczos", "power"])
def test_a_second_call_goes_on(method):
    """Twenty iterations and then more: as good as the run that was not interrupted."""
    model = frozen(lgn.CenterSurround(15, 1.2, 3.0, pad_mode="circular"))
    image = torch.rand(1, 1, 48, 50, dtype=torch.float64)
    model.double()
    found = find(image, model, 1, method, tolerance=1e-4, max_iter=20)
    assert found.status == "max_iter"
    assert "max_iter" in found.vector_status
    first, spent = float(found.residuals.max()), found.seconds
    found.synthesize(1, method, tolerance=1e-4, max_iter=20, progress=False)
    assert found.residuals.max() < first
    assert found.seconds > spent
    found.synthesize(1, method, tolerance=1e-4, max_iter=20_000, progress=False)
    assert_sound(found, 1e-4)


def test_a_lower_tolerance_needs_only_the_difference():
    model = frozen(lgn.CenterSurround(15, 1.2, 3.0)).double()
    image = torch.rand(1, 1, 48, 50, dtype=torch.float64)
    found = find(image, model, tolerance=1e-3)
    loose = found.products
    found.synthesize(tolerance=1e-4, progress=False)
    assert_sound(found, 1e-4)
    whole = find(image, model, tolerance=1e-4)
    assert loose < found.products < whole.products + 30
    torch.testing.assert_close(found.eigenvalues, whole.eigenvalues, rtol=1e-3, atol=1e-6)


def test_an_unreachable_tolerance_is_called_stalled():
    gains = 1 + torch.arange(1600.0).reshape(1, 40, 40) % 5
    found = find(torch.rand(1, 1, 40, 40), Scale(gains), tolerance=1e-12)
    assert found.status == "stalled"
    assert set(found.vector_status) <= {"stalled", "converged"}
    assert found.residuals.max() < 1e-5
    assert found.products < 200
    exact = find(torch.rand(1, 1, 8, 9), frozen(lgn.Gaussian(5, 1.0)), tolerance=1e-12)
    assert exact.status == "stalled"


def test_results_survive_saving(tmp_path, reference):
    model, image = front_end("luminance_gain_control"), reference["small"]
    found = find(image, model, 2, "lanczos")
    found.save(tmp_path / "eig.safetensors")
    again = Eigendistortion.load(tmp_path / "eig.safetensors", model)
    for name in ("image", "eigenvalues", "eigendistortions", "residuals"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    for name in ("k", "status", "vector_status", "method", "products", "seconds"):
        assert getattr(again, name) == getattr(found, name)
    again.synthesize(2, "lanczos", tolerance=1e-7, progress=False)
    assert_sound(again, 1e-7)
    spectrum = reference["fim_eig_luminance_gain_control"]
    assert abs(again.eigenvalues[0] - spectrum[-1]) < 1e-6 * spectrum[-1]


def test_loading_with_another_model_is_refused(tmp_path, reference):
    found = find(reference["small"], front_end("luminance_gain_control"))
    found.save(tmp_path / "eig.safetensors")
    with pytest.raises(InputError, match="made with another model"):
        Eigendistortion.load(tmp_path / "eig.safetensors", front_end("center_surround"))
    with pytest.raises(FileFormatError, match="no file"):
        Eigendistortion.load(tmp_path / "none.safetensors", front_end("center_surround"))


def test_an_unfinished_object_can_be_saved(tmp_path):
    empty = Eigendistortion(torch.rand(1, 1, 5, 5), lambda x: x.square())
    assert (empty.status, empty.k, empty.method) == ("not started", 0, "none")
    empty.save(tmp_path / "empty.safetensors")
    again = Eigendistortion.load(tmp_path / "empty.safetensors", lambda x: x.square())
    assert again.eigendistortions.shape == (0, 1, 5, 5)


class Rough(torch.autograd.Function):
    """Finite gradients in reverse mode, NaN in forward mode."""

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient

    @staticmethod
    def jvp(ctx, tangent):
        return tangent * math.nan


@pytest.mark.parametrize("method", ["lanczos", "power"])
def test_nan_is_refused_with_the_product_it_appeared_in(method):
    probe = Eigendistortion(torch.rand(1, 1, 8, 8), Rough.apply)
    with pytest.raises(NonFiniteError, match="in product 1 with"):
        probe.synthesize(method=method, progress=False)


def test_nan_in_the_matrix_is_refused():
    def model(x: Tensor) -> Tensor:
        return torch.cat([Rough.apply(x)] * 3, dim=1)

    with pytest.raises(NonFiniteError, match="in the Fisher matrix"):
        find(torch.rand(1, 1, 8, 8), model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k from 1 to 12"),
        ({"k": 13}, "k from 1 to 12"),
        ({"k": True}, "k from 1 to 12"),
        ({"method": "lobpcg"}, "exact, lanczos, power"),
        ({"tolerance": 0.0}, "tolerance > 0"),
        ({"tolerance": math.nan}, "tolerance > 0"),
        ({"max_iter": 0}, "max_iter >= 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    probe = Eigendistortion(torch.rand(1, 1, 5, 5), lambda x: x.square())
    with pytest.raises(InputError, match=message):
        probe.synthesize(**settings, progress=False)


def test_all_components_can_be_asked_for():
    image = torch.rand(1, 1, 5, 4, dtype=torch.float64)
    for method in METHODS:
        found = find(image, lambda x: x.square(), 10, method)
        expected = (2 * image).square().flatten().sort(descending=True).values
        torch.testing.assert_close(found.eigenvalues, expected)


def test_the_exact_method_refuses_what_does_not_fit():
    probe = Eigendistortion(torch.rand(1, 1, 160, 160), lambda x: x.square())
    with pytest.raises(InputError, match="method='lanczos'"):
        probe.synthesize(method="exact", progress=False)


def test_models_that_cannot_be_probed_are_refused():
    with pytest.raises(InputError, match="fails"):
        Eigendistortion(torch.rand(1, 1, 8, 8), nn.Conv2d(1, 1, 3))
    with pytest.raises(InputError, match="axes"):
        Eigendistortion(torch.rand(8, 8), lambda x: x.square())


@pytest.mark.parametrize("method", ["lanczos", "power"])
def test_an_interrupt_keeps_what_was_found(method, capfd):
    """One interrupt ends the search at the next look; a later call goes on."""
    armed = [False]

    def model(x: Tensor) -> Tensor:
        if armed[0]:
            armed[0] = False
            signal.raise_signal(signal.SIGINT)
        return x * x.roll(1, -1) + 0.1 * x

    probe = Eigendistortion(torch.rand(1, 1, 40, 40, dtype=torch.float64), model)
    armed[0] = True
    probe.synthesize(1, method, tolerance=1e-3, progress=False)
    assert probe.status == "interrupted"
    assert probe.eigendistortions.shape == (2, 1, 40, 40)
    assert "Stopping" in capfd.readouterr().err
    probe.synthesize(1, method, tolerance=1e-3, max_iter=20_000, progress=False)
    assert_sound(probe, 1e-3)


def test_progress_shows_the_residual(capsys):
    Eigendistortion(torch.rand(1, 1, 40, 40), lambda x: x.square()).synthesize()
    assert "residual" in capsys.readouterr().err
