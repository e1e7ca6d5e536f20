"""Metamers: found for all kinds of models, resumed and saved without a trace, or refused."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from calcarine.errors import (
    CalcarineWarning,
    FileFormatError,
    InputError,
    NonFiniteError,
    ShapeError,
)
from calcarine.lgn import Gaussian, LuminanceGainControl, OnOff
from calcarine.probes import Geodesic, Metamer, mse, range_penalty


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Return smooth noise within [0.2, 0.8]."""
    noise = F.avg_pool2d(torch.rand(shape, generator=seeded(seed), dtype=dtype), 3, 1, 1)
    low, high = noise.amin(), noise.amax()
    return 0.2 + 0.6 * (noise - low) / (high - low)


def pooled(x: Tensor) -> Tensor:
    """Means over 4 x 4 pixels: most of the image is invisible."""
    return F.avg_pool2d(x, 4)


def energies(x: Tensor) -> Tensor:
    """A nonlinear 3-D representation."""
    dx, dy = x.diff(dim=-1), x.diff(dim=-2)
    return torch.stack([F.avg_pool2d(d.square(), 8).flatten(1) for d in (dx, dy)], 1)


def spectrum(x: Tensor) -> Tensor:
    """A complex representation: the low frequencies."""
    return torch.fft.rfft2(x, norm="ortho")[..., :6, :6]


def run(probe: Metamer, iterations: int = 200, tolerance: float = 1e-10, **more) -> Metamer:
    return probe.synthesize(iterations, tolerance, progress=False, **more)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (pooled, (1, 1, 32, 32)),
        (pooled, (2, 3, 35, 41)),
        (energies, (1, 1, 35, 41)),
        (spectrum, (2, 1, 35, 41)),
        (OnOff(7, pretrained=False), (1, 1, 35, 41)),
        (LuminanceGainControl(7), (1, 3, 32, 36)),
    ],
    ids=["linear", "colour", "3-D", "complex", "on-off", "gain control in colour"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_models_of_every_kind_have_metamers(model, shape, dtype):
    if isinstance(model, nn.Module):
        model = model.to(dtype).eval().requires_grad_(False)
    image = picture(*shape, dtype=dtype)
    probe = run(Metamer(image, model), 600, 1e-7)
    assert probe.status == "converged"
    assert probe.metamer.shape == shape
    assert probe.metamer.dtype == dtype
    response = model(probe.metamer)
    reached = (response - model(image)).abs().square().mean()
    assert reached < 1e-6
    assert reached < 0.01 * (model(probe.initial) - model(image)).abs().square().mean()
    assert (probe.metamer - image).abs().mean() > 0.02
    assert range_penalty(probe.metamer).max() < 1e-4


def test_what_the_model_cannot_see_comes_from_the_beginning():
    """A blur leaves fine detail free."""
    model = Gaussian(9, std=1.5).eval().requires_grad_(False)
    image, other = picture(1, 1, 40, 40), picture(1, 1, 40, 40, seed=5)
    probe = run(Metamer(image, model, other), 500, 1e-9)
    assert probe.losses.representation[-1] < 1e-8
    high = [x - F.avg_pool2d(x, 3, 1, 1) for x in (probe.metamer, other, image)]
    assert torch.corrcoef(torch.stack([h.flatten() for h in high]))[0, 1] > 0.5
    assert torch.equal(probe.initial, other)


def test_the_image_itself_is_its_metamer_at_once():
    image = picture(1, 1, 32, 32)
    probe = run(Metamer(image, pooled, image))
    assert (probe.status, probe.iterations) == ("converged", 0)
    torch.testing.assert_close(probe.metamer, image)


def test_losses_are_those_of_the_images():
    image = picture(2, 1, 32, 32)
    probe = run(Metamer(image, energies, penalty_weight=3.0), 25, 0.0, store_every=10)
    assert probe.status == "max_iter"
    assert probe.losses.representation.shape == probe.losses.penalty.shape == (26,)
    assert probe.item_losses.penalty.shape == (26, 2)
    assert probe.history.iterations == (0, 10, 20, 25)
    assert probe.history.images.shape == (4, 2, 1, 32, 32)
    for n, x in zip(probe.history.iterations, probe.history.images, strict=True):
        expected = mse(energies(x), energies(image)).mean(1)
        torch.testing.assert_close(probe.item_losses.representation[n], expected)
        torch.testing.assert_close(probe.losses.representation[n], expected.mean())
        torch.testing.assert_close(probe.losses.penalty[n], range_penalty(x).mean())
    torch.testing.assert_close(probe.history.images[0], probe.initial)
    assert torch.equal(probe.history.images[-1], probe.metamer)


def test_before_any_iteration_the_losses_are_empty():
    probe = Metamer(picture(2, 1, 32, 32), pooled)
    assert probe.status == "not started"
    assert probe.losses.representation.shape == (0,)
    assert probe.item_losses.penalty.shape == (0, 2)
    assert probe.history.iterations == ()


def sgd(pixels: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(pixels, lr=0.5, momentum=0.9)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam", sgd, torch.optim.Adagrad])
def test_a_second_call_goes_on_bit_for_bit(optimizer):
    image = picture(2, 1, 32, 32)
    whole = run(Metamer(image, energies), 30, 0.0, optimizer=optimizer, store_every=7)
    parts = Metamer(image, energies)
    for n in (1, 19, 10):
        run(parts, n, 0.0, optimizer=optimizer, store_every=7)
    assert torch.equal(whole.metamer, parts.metamer)
    assert torch.equal(whole.losses.representation, parts.losses.representation)
    assert whole.history.iterations == parts.history.iterations
    assert torch.equal(whole.history.images, parts.history.images)
    assert whole.losses.representation[-1] < whole.losses.representation[0]


def test_an_optimizer_made_for_the_metamer_goes_on_too():
    image = picture(1, 1, 32, 32)
    found = []
    for parts in ((30,), (12, 18)):
        probe = Metamer(image, energies)
        optimizer = torch.optim.Adam([probe.metamer], lr=0.01)
        for n in parts:
            run(probe, n, 0.0, optimizer=optimizer)
        found.append(probe.metamer)
    assert torch.equal(*found)


def test_the_metamer_stays_the_same_tensor():
    probe = Metamer(picture(1, 1, 32, 32), pooled)
    pixels = probe.metamer
    for optimizer in ("lbfgs", "adam", sgd):
        run(probe, 2, 0.0, optimizer=optimizer)
    assert probe.metamer is pixels
    assert not pixels.requires_grad
    assert pixels.grad is None


def test_optimizers_of_pytorch_that_search_lines_work():
    probe = Metamer(picture(1, 1, 32, 32), pooled)
    optimizer = torch.optim.LBFGS([probe.metamer], line_search_fn="strong_wolfe", lr=1.0)
    run(probe, 20, 1e-6, optimizer=optimizer)
    assert probe.status == "converged"


def test_lbfgs_after_adam_works_in_its_own_variables():
    image = picture(1, 1, 32, 32)
    model = Gaussian(9, std=1.5).eval().requires_grad_(False)
    spent = []
    for precondition in (True, False):
        probe = run(Metamer(image, model), 5, 0.0, optimizer="adam")
        run(probe, 300, 1e-7, precondition=precondition)
        spent.append(probe.iterations)
    assert spent[0] < 0.6 * spent[1]


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("newton", "'lbfgs', 'adam'"),
        (3, "'lbfgs', 'adam'"),
        (torch.optim.Adam([torch.zeros(1)]), "of other tensors"),
        (lambda pixels: torch.optim.Adam([pixels[0].clone()]), "of other tensors"),
        (lambda pixels: torch.optim.Adam([*pixels, torch.zeros(1)]), "of other tensors"),
        (lambda pixels: None, "it made None"),
    ],
)
def test_other_optimizers_are_refused(optimizer, message):
    with pytest.raises(InputError, match=message):
        run(Metamer(picture(1, 1, 32, 32), pooled), optimizer=optimizer)


def test_the_same_seed_gives_the_same_metamer():
    image = picture(1, 1, 32, 32)
    found = [
        run(Metamer(image, energies, generator=seeded(seed)), 20, 0.0).metamer for seed in (1, 1, 2)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=0.05)
    default = [run(Metamer(image, energies), 20, 0.0).metamer for _ in range(2)]
    assert torch.equal(*default)


def test_the_global_seed_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run(Metamer(picture(1, 1, 32, 32), energies), 5)
    assert torch.equal(before, torch.get_rng_state())


def test_images_of_a_batch_are_matched_one_to_one():
    image = picture(3, 1, 32, 32)
    probe = run(Metamer(image, pooled))
    distance = (pooled(probe.metamer)[:, None] - pooled(image)[None]).square().flatten(2).mean(2)
    assert distance.argmin(1).tolist() == [0, 1, 2]
    assert distance.diagonal().max() < 1e-8


def per_image(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().flatten(1).mean(1)


def one_in_all(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().mean()


@pytest.mark.parametrize(("loss", "groups"), [(mse, 3), (per_image, 3), (one_in_all, 1)])
@pytest.mark.parametrize("penalty", [range_penalty, None, lambda x: range_penalty(x).mean()])
def test_losses_per_channel_per_image_and_in_one_agree(loss, groups, penalty):
    image = picture(3, 2, 32, 32)
    probe = run(Metamer(image, pooled, loss=loss, penalty=penalty))
    assert probe.status == "converged"
    assert mse(pooled(probe.metamer), pooled(image)).mean() < 1e-9
    shared = penalty not in (range_penalty, None)
    assert probe.item_losses.penalty.shape[1] == (1 if shared else groups)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda x, y: 0.3, "tensor of real numbers"),
        (lambda x, y: (x - y).square().mean().detach(), "no gradient reaches"),
        (lambda x, y: (x - y).square().mean((0, 1)), "one value per image"),
        (lambda x, y: torch.fft.fft2(x - y).mean(), "tensor of real numbers"),
    ],
)
def test_losses_that_are_none_are_refused(loss, message):
    with pytest.raises((InputError, ShapeError), match=message):
        Metamer(picture(3, 1, 32, 32), pooled, loss=loss)


def test_the_penalty_keeps_pixels_in_their_range():
    image = torch.full((1, 1, 32, 32), 0.97, dtype=torch.float64)
    outside = []
    for settings in ({}, {"penalty": None}, {"penalty_weight": 0.0}):
        probe = run(Metamer(image, pooled, **settings))
        assert probe.status == "converged"
        outside.append(float(range_penalty(probe.metamer).max()))
    assert outside[0] < 1e-7
    assert min(outside[1:]) > 1e-4


def test_a_penalty_of_ones_own():
    image = torch.full((1, 1, 32, 32), 0.5, dtype=torch.float64)
    probe = run(Metamer(image, pooled, penalty=partial(range_penalty, low=0.4, high=0.6)))
    assert probe.status == "converged"
    assert 0.39 < probe.metamer.min() < probe.metamer.max() < 0.61


def test_a_penalty_of_weight_zero_may_be_infinite():
    def barrier(x: Tensor) -> Tensor:
        return -(x - 2).clamp_min(0).log().flatten(1).mean(1)

    probe = run(Metamer(picture(1, 1, 32, 32), pooled, penalty=barrier, penalty_weight=0.0))
    assert probe.status == "converged"


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_weights_below_zero_are_refused(weight):
    with pytest.raises(InputError, match="penalty_weight >= 0"):
        Metamer(picture(1, 1, 32, 32), pooled, penalty_weight=weight)


@pytest.mark.parametrize("model", [lambda x: torch.relu(x - 2), torch.sqrt, lambda x: x.log()])
def test_flat_and_partly_undefined_models_are_no_trouble(model):
    """A model that is silent, and roots and logarithms of pixels that begin near zero."""
    image = picture(1, 1, 16, 16)
    probe = Metamer(image, model)
    with torch.no_grad():
        first = mse(model(probe.initial), probe.target).mean()
    run(probe, 200, 1e-6)
    assert probe.losses.representation[-1] <= 0.01 * first


def test_inside_no_grad_it_works_as_well():
    with torch.no_grad():
        assert run(Metamer(picture(1, 1, 32, 32), pooled)).status == "converged"


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("model", [energies, spectrum])
def test_saved_in_the_middle_it_goes_on_as_if_nothing_had_been(tmp_path, optimizer, model):
    image = picture(2, 1, 32, 32)
    more = {"optimizer": optimizer, "store_every": 4}
    whole = run(Metamer(image, model, penalty_weight=0.3), 30, 0.0, **more)
    half = run(Metamer(image, model, penalty_weight=0.3), 14, 0.0, **more)
    half.save(tmp_path / "half.safetensors")
    read = Metamer.load(tmp_path / "half.safetensors", model)
    for name in ("image", "initial", "target", "metamer"):
        assert torch.equal(getattr(read, name), getattr(half, name))
    assert (read.status, read.iterations, read.seconds) == ("max_iter", 14, half.seconds)
    assert read.history.iterations == half.history.iterations
    run(read, 16, 0.0, **more)
    assert torch.equal(read.metamer, whole.metamer)
    for name in ("representation", "penalty"):
        assert torch.equal(getattr(read.item_losses, name), getattr(whole.item_losses, name))
    assert read.history.iterations == whole.history.iterations
    assert torch.equal(read.history.images, whole.history.images)


def test_saved_before_it_began_it_begins(tmp_path):
    image = picture(1, 1, 32, 32)
    path = Metamer(image, pooled, generator=seeded(7)).save(tmp_path / "a.safetensors")
    read = Metamer.load(path, pooled)
    assert read.status == "not started"
    assert run(read).status == "converged"


def test_files_of_others_are_refused(tmp_path):
    image = picture(1, 1, 32, 32)
    path = Metamer(image, pooled).save(tmp_path / "a.safetensors")
    for other in (
        lambda x: 1.1 * pooled(x),
        energies,
        lambda x: torch.complex(pooled(x), 0 * pooled(x)),
    ):
        with pytest.raises(InputError, match="another model"):
            Metamer.load(path, other)
    with pytest.raises(FileFormatError, match="expected one of 'geodesic'"):
        Geodesic.load(path, pooled)
    with pytest.raises(FileFormatError, match="no file"):
        Metamer.load(tmp_path / "b.safetensors", pooled)


def test_nan_names_its_iteration_and_keeps_the_pixels():
    calls = 0

    def breaks(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x.square() if calls <= 40 else x.square() * float("nan")

    probe = Metamer(picture(1, 1, 16, 16), breaks)
    with pytest.raises(NonFiniteError, match="at iteration"):
        run(probe, 100, 0.0)
    assert probe.metamer.isfinite().all()
    assert not torch.equal(probe.metamer, probe.initial)


def test_an_interrupt_leaves_a_usable_result():
    calls = 0

    def interrupts(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 40:
            os.kill(os.getpid(), signal.SIGINT)
        return energies(x)

    probe = run(Metamer(picture(1, 1, 32, 32), interrupts), 500, 0.0)
    assert probe.status == "interrupted"
    assert 0 < probe.iterations < 40
    assert len(probe.losses.representation) == probe.iterations + 1
    assert run(probe, 5, 0.0).status == "max_iter"


@pytest.mark.parametrize("optimizer", ["lbfgs", sgd])  # PyTorch's Adam reads its own step count
def test_no_iteration_reads_a_number_from_the_device(optimizer):
    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += func is torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    probe = Metamer(picture(2, 1, 32, 32), energies)
    stepper = probe.begin(optimizer)
    with Reads() as reads:
        for _ in range(10):
            stepper.step()
    assert reads.count == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image": picture(1, 32, 32)}, InputError, "batch, channel, height, width"),
        ({"image": "photo"}, InputError, "image as a tensor"),
        ({"image": picture(1, 1, 32, 32) / 0}, InputError, "NaN or infinity"),
        ({"initial": picture(1, 1, 32, 30)}, ShapeError, "initial of the image's shape"),
        ({"initial": picture(2, 1, 32, 32)}, ShapeError, "repeat"),
        ({"initial": picture(1, 1, 32, 32).float()}, InputError, "initial.to"),
        ({"initial": picture(1, 1, 32, 32) / 0}, InputError, "finite"),
        ({"initial": 3}, ShapeError, "got int"),
        ({"model": lambda x: x.detach()}, InputError, "differentiable"),
        ({"model": lambda x: x.flatten(1)}, InputError, "3-D or 4-D"),
        ({"generator": 3}, InputError, r"torch\.Generator"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    settings = {"image": picture(1, 1, 32, 32), "model": pooled} | change
    with pytest.raises(error, match=message):
        Metamer(**settings)


def test_training_mode_without_consequences_warns():
    model = nn.Sequential(nn.AvgPool2d(4)).train()
    with pytest.warns(CalcarineWarning, match=r"model\.eval"):
        probe = Metamer(picture(1, 1, 32, 32), model)
    assert run(probe).status == "converged"


def test_the_image_given_is_left_as_it_was():
    image = picture(1, 1, 32, 32).requires_grad_()
    initial = picture(1, 1, 32, 32, seed=3)
    kept = image.detach().clone(), initial.clone()
    probe = run(Metamer(image, pooled, initial))
    assert torch.equal(image.detach(), kept[0])
    assert torch.equal(initial, kept[1])
    assert image.grad is None
    assert not probe.image.requires_grad
