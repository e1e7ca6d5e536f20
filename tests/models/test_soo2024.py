"""CordsNet against reference arrays, finite differences and its own step-by-step form."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from calcarine import simulate
from calcarine.errors import CalcarineWarning, InputError, ShapeError, UnknownNameError
from calcarine.models import CordsNet
from calcarine.models._implicit import gmres

DATA = Path(__file__).parent.parent / "data"


def published(name: str) -> tuple[CordsNet, dict[str, Tensor], Tensor, dict[str, np.ndarray]]:
    """Return a model, the weights and images of a reference array, and the array."""
    with np.load(DATA / f"cordsnet_{name}.npz", allow_pickle=False) as stored:
        reference = {key: stored[key] for key in stored.files}
    generator = torch.Generator().manual_seed(int(reference["seed"]))
    weights = {}
    for key, text in zip(reference["names"], reference["shapes"], strict=True):
        shape = tuple(int(n) for n in text.strip("()").split(",") if n.strip())
        if key.endswith("original0"):
            weights[str(key)] = 0.2 + 0.6 * torch.rand(shape, generator=generator)
        else:
            scale = 1.0 if key.endswith("original1") else 0.1
            weights[str(key)] = scale * torch.randn(shape, generator=generator)
    channels = weights["inp_conv.parametrizations.weight.original1"].shape[1]
    generator.manual_seed(int(reference["seed"]) + 100)
    images = torch.randn(2, channels, 224, 224, generator=generator)
    model = CordsNet(depth=int(reference["depth"]), classes=10, channels=channels)
    return model.eval().requires_grad_(False), weights, images, reference


def small(**settings) -> CordsNet:
    """Return a network of random weights and biases that answers to its input."""
    torch.manual_seed(3)
    settings = {"depth": 4, "classes": 5, "channels": 2, "image_size": (19, 14)} | settings
    model = CordsNet(**settings)
    with torch.no_grad():
        for area in model.areas:
            area.bias.normal_(0, 0.3)
    return model


def images(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, 2, 19, 14, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["cifar10_2", "mnist_4"])
def test_logits_and_activity_match_the_reference_arrays(name):
    """Sums of a few hundred terms in another order: 1e-5, where activity is of order 0.1 to 1."""
    model, weights, pictures, reference = published(name)
    model.load_published({f"module.{key}": value for key, value in weights.items()})
    logits = model.classify(pictures)
    assert torch.allclose(logits, torch.from_numpy(reference["logits"]), rtol=0, atol=1e-5)
    last = model.depth
    mean = model.trace(pictures, [last], measure=lambda r: r.mean((1, 2, 3)))[last]
    unit = model.trace(pictures, [last], measure=lambda r: r[:, :4, 3, 3])[last]
    assert mean.shape == (200, 2)
    assert torch.allclose(mean, torch.from_numpy(reference["trace_mean"]), rtol=0, atol=1e-5)
    assert torch.allclose(unit, torch.from_numpy(reference["trace_unit"]), rtol=0, atol=1e-5)
    assert (unit[99] - unit[199]).abs().max() > 1e-3


@pytest.mark.parametrize(("depth", "millions"), [(2, 0.66), (4, 1.45), (6, 3.78), (8, 12.48)])
def test_numbers_of_parameters_are_those_of_the_paper(depth, millions):
    model = CordsNet(depth=depth)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("depth", "size"), [(2, 32), (4, (51, 37)), (6, (40, 33))])
def test_steps_scans_and_trials_are_one_network(depth, size, dtype):
    """The plain step asks the modules, the scan folds them; a standing movie is an image."""
    model = small(depth=depth, image_size=size).to(dtype).eval().requires_grad_(False)
    pictures = torch.randn(2, 2, *model.size, dtype=dtype)
    movie = pictures.expand(25, *pictures.shape)
    rest = model.baseline(pictures, 40.0)
    close = {"rtol": 1e-4, "atol": 1e-5 if dtype == torch.float32 else 1e-12}
    plain, plain_state = simulate.run(model, movie, rest, engine="plain")
    fused, state = simulate.run(model, movie, rest, engine="scan")
    moving, _ = simulate.run(model, movie.contiguous(), rest, engine="scan")
    assert torch.allclose(plain, fused, **close)
    assert torch.allclose(fused, moving, **close)
    assert torch.allclose(model.classify(pictures, 40.0, 50.0), fused[-1], **close)
    assert torch.allclose(model.classify(movie.contiguous(), 40.0), fused[-1], **close)
    trace = model.trace(pictures, None, 40.0, 50.0)
    for k in range(depth):
        assert torch.allclose(trace[k + 1][19], rest.areas[k].r, **close)
        assert torch.allclose(trace[k + 1][-1], state.areas[k].r, **close)
        assert torch.allclose(plain_state.areas[k].r, state.areas[k].r, **close)


def test_trials_start_where_they_are_told_and_see_noise_drawn_anew():
    model = small(depth=2).eval().requires_grad_(False)
    pictures = images()
    rest = model.baseline(pictures, 40.0)
    begun = [r[-1] for r in model.trial(pictures, 40.0, 30.0, 20.0)]
    continued = [r[-1] for r in model.trial(pictures, 0.0, 30.0, 20.0, state=rest)]
    assert len(begun) == 45
    assert torch.equal(torch.stack(begun[20:]), torch.stack(continued))

    def noisy(seed: int, noise: float) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        trial = model.trial(pictures, 0.0, 10.0, 0.0, state=rest, noise=noise, generator=generator)
        return torch.stack([r[0] for r in trial])

    assert torch.equal(noisy(1, 0.5), noisy(1, 0.5))
    assert not torch.equal(noisy(1, 0.5), noisy(2, 0.5))
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randn(pictures.shape, generator=generator) for _ in range(5)]
    movie = torch.stack([pictures + 0.5 * frame for frame in drawn])
    shown = [r[0] for r in model.trial(movie, 0.0, state=rest)]
    assert torch.equal(noisy(1, 0.5), torch.stack(shown))


def test_a_slope_inside_areas_leads_from_relu_to_a_linear_network():
    model = small(depth=2).eval().requires_grad_(False)
    weights, pictures = model.folded(), images()
    rates = tuple(torch.randn_like(r) for r in weights.zero())
    drive = weights.drive(pictures[:1])
    relu, leaky, linear = (weights.step(rates, drive, slope) for slope in (0.0, 0.25, 1.0))
    assert all(map(torch.equal, relu, weights.step(rates, drive)))
    for none, some, all_of_it in zip(relu, leaky, linear, strict=True):
        assert torch.allclose(some, 0.75 * none + 0.25 * all_of_it, atol=1e-6)


def test_impossible_trials_are_refused():
    model = small(depth=2)
    with pytest.raises(InputError, match="noise of at least 0"):
        model.trial(images(), noise=-1.0)
    with pytest.raises(InputError, match="at least one step"):
        model.trial(images(), 0.0, 0.0, 0.0)
    with pytest.raises(ShapeError, match="state of 2 areas for a batch of"):
        model.trial(images(), state=model.baseline(images()[:1]))


def test_a_signal_passes_one_connection_per_step():
    model = small(depth=8).double().eval().requires_grad_(False)
    pictures = images().double()
    rest = model.baseline(pictures, 400.0)
    states = [rest]
    for _ in range(5):
        states.append(model(pictures, states[-1])[1])
    for k in range(8):
        moved = [(s.areas[k].r - rest.areas[k].r).abs().max() > 1e-12 for s in states]
        # Even areas see past the one before them: area 2 the image, area 4 area 2 and so on.
        assert moved.index(True) == k // 2 + 1, f"area {k + 1}"


def test_movies_are_seen_frame_by_frame():
    model = small().eval().requires_grad_(False)
    movie = torch.stack([images(seed=s) for s in range(6)])
    logits, _ = simulate.run(model, movie, model.baseline(movie[0], 20.0))
    assert torch.allclose(model.classify(movie, 20.0), logits[-1], atol=1e-6)
    assert (logits[-1] - model.classify(movie[-1], 20.0, 12.0)).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("write", "label"),
    [
        (lambda m: m.area1.bias.add_(0.5), "in place"),
        (lambda m: m.area1.bias.data.add_(0.5), "through .data"),
        (lambda m: m.skip4.parametrizations.weight.original0.data.mul_(2.0), "a skip"),
        (lambda m: setattr(m.area3, "bias", torch.nn.Parameter(m.area3.bias + 0.5)), "exchanged"),
        (lambda m: m.area2.tau.value.fill_(20.0), "buffer"),
    ],
)
def test_the_kept_baseline_is_never_stale(write, label):
    model = small().eval().requires_grad_(False)
    before = model.classify(images(), 30.0, 30.0)
    assert torch.equal(before, model.classify(images(), 30.0, 30.0))
    write(model)
    if label == "buffer":
        model.load_state_dict(model.state_dict())
    fresh = CordsNet(depth=4, classes=5, channels=2, image_size=(19, 14)).eval()
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = fresh.classify(images(), 30.0, 30.0)
        assert torch.equal(model.classify(images(), 30.0, 30.0), expected)
    assert not torch.equal(before, expected)


def test_the_baseline_is_kept_only_where_nothing_is_learned(monkeypatch):
    model = small()
    computed = []
    step = type(model.folded()).step

    def counted(self, rates, drive):
        computed.append(rates[0].shape[0])
        return step(self, rates, drive)

    monkeypatch.setattr(type(model.folded()), "step", counted)
    model.classify(images(3), 20.0, 4.0).sum().backward()
    assert computed == [1] * 10 + [3] * 2
    computed.clear()
    with torch.inference_mode():
        model.classify(images(3), 20.0, 4.0)
        model.classify(images(3), 20.0, 4.0)
    assert computed == [1] * 10 + [3] * 2 + [3] * 2
    picture = images(1).requires_grad_()
    frozen = copy.deepcopy(model).requires_grad_(False)
    frozen.classify(picture, 20.0, 4.0).sum().backward()
    assert picture.grad.abs().max() > 0


def test_the_stem_is_not_asked_without_an_image(monkeypatch):
    model = small().eval().requires_grad_(False)
    kind = type(model.folded())
    pooled, asked = kind.pooled, []
    monkeypatch.setattr(kind, "pooled", lambda self, x: asked.append(1) or pooled(self, x))
    model.trace(images(), [1], 20.0, 20.0, 20.0)
    assert len(asked) == 1


def test_activity_returns_to_baseline_after_the_image():
    """Contracting weights have one resting state, whatever was shown."""
    model = small().eval().requires_grad_(False)
    trace = model.trace(images(), [2, 4], 400.0, 200.0, 400.0)
    for activity in trace.values():
        assert (activity[199] - activity[299]).abs().max() > 1e-2
        assert torch.allclose(activity[199], activity[-1], atol=1e-5)


def test_stopping_when_nothing_changes_gives_the_same_answer(monkeypatch):
    model = small().eval().requires_grad_(False)
    whole = model.classify(images(), 400.0, 1000.0)
    kind, steps = type(model.folded()), []
    step = kind.step
    monkeypatch.setattr(kind, "step", lambda s, r, d: steps.append(1) or step(s, r, d))
    early = model.classify(images(), 400.0, 1000.0, converged=1e-6)
    assert torch.allclose(whole, early, atol=1e-5)
    assert 20 < len(steps) < 300


def test_a_finer_step_ends_in_the_same_place_and_converges_on_the_way():
    """Euler's method is of first order: the error of the path halves with the step."""
    coarse = small(depth=2).double().eval().requires_grad_(False)
    logits = {}
    for dt_ms in (2.0, 1.0, 0.25):
        model = small(depth=2, dt_ms=dt_ms).double().eval().requires_grad_(False)
        model.load_state_dict(coarse.state_dict())
        picture = images().double()
        logits[dt_ms] = model.classify(picture, 300.0, 20.0), model.classify(picture, 300.0, 300.0)
    assert torch.allclose(logits[2.0][1], logits[0.25][1], atol=1e-9)
    errors = [(logits[dt][0] - logits[0.25][0]).abs().max() for dt in (2.0, 1.0)]
    assert errors[0] > 1e-4
    assert 1.6 < errors[0] / errors[1] < 3.0


def test_time_constants_per_area_and_unit_can_be_learned():
    per_unit = torch.full((128, 3, 2), 30.0).tolist()
    model = small(tau_ms=(5.0, 10.0, 20.0, per_unit), learnable=True)
    model.classify(images(), 20.0, 20.0).sum().backward()
    for k, area in enumerate(model.areas):
        assert area.tau.raw.grad.abs().sum() > 0, k
    assert model.area4.tau.raw.shape == (128, 3, 2)
    assert model.area3.tau.current().item() == pytest.approx(20.0, rel=1e-5)


def gradients(model: CordsNet, logits: Tensor, picture: Tensor) -> dict[str, Tensor]:
    named = {n: p for n, p in model.named_parameters() if ".tau." not in n} | {"image": picture}
    weight = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).reshape(logits.shape)
    return dict(
        zip(named, torch.autograd.grad((logits * weight).sum(), named.values()), strict=True)
    )


def test_gradient_at_the_fixed_point_is_that_of_many_steps():
    """After 600 ms the steps' own gradient has settled, too, to 0.8^300."""
    model = small(depth=4, image_size=(19, 14)).double()
    picture = images().double().requires_grad_()
    expected = gradients(model, model.classify(picture, 0.0, 600.0), picture)
    rest = model.settle(picture, tolerance=1e-10)
    assert rest.converged
    assert rest.adjoint.converged is None
    found = gradients(model, rest.logits, picture)
    assert rest.adjoint.converged
    assert 0 < rest.adjoint.iterations < 200
    for name, value in expected.items():
        assert value.abs().max() > 0, name
        assert torch.allclose(found[name], value, rtol=1e-6, atol=1e-8), name
    by_flag = model.classify(picture, 0.0, 800.0, converged=1e-10, gradient="fixed_point")
    assert torch.allclose(gradients(model, by_flag, picture)["image"], expected["image"])


@pytest.mark.parametrize("gradient", ["steps", "fixed_point"])
def test_memory_at_the_fixed_point_does_not_grow_with_time(gradient):
    model = small()
    held = []
    for warmup, tolerance in ((0.0, 1e-2), (0.0, 1e-5)):
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            model.classify(images(), warmup, 800.0, converged=tolerance, gradient=gradient)
        held.append(sum(kept.values()))
    assert (held[0] == held[1]) == (gradient == "fixed_point")


def test_a_network_that_does_not_settle_says_so():
    model = small()
    with pytest.warns(CalcarineWarning, match="has not settled within 5 steps"):
        rest = model.settle(images(), warmup_ms=0.0, longest_ms=10.0)
    assert not rest.converged
    assert rest.steps == 5
    assert rest.residual > 1e-5


def test_gmres_solves_each_item_and_reports_when_it_cannot():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(3, 40, 40, generator=generator, dtype=torch.float64) / 9 + torch.eye(40)
    right = torch.randn(3, 40, generator=generator, dtype=torch.float64)
    right[2] = 0

    def operator(x: Tensor) -> Tensor:
        return torch.einsum("bij,bj->bi", matrix, x)

    x, report = gmres(operator, right, tolerance=1e-10, max_iterations=500)
    assert report.converged
    assert torch.allclose(x, torch.linalg.solve(matrix, right), atol=1e-8)
    assert torch.equal(x[2], right[2])
    _, report = gmres(operator, right, tolerance=1e-10, max_iterations=1)
    assert report.converged is False
    assert report.residual > 1e-10


def test_bfloat16_and_autocast_give_the_same_answer_roughly():
    """Eight bits of mantissa: a few percent of the range of the logits."""
    model = small().eval().requires_grad_(False)
    exact = model.classify(images())
    halved = copy.deepcopy(model).bfloat16().classify(images().bfloat16())
    assert halved.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.classify(images())
    for found in (halved.float(), mixed.float()):
        assert (found - exact).abs().max() < 0.05 * (exact.max() - exact.min())
    assert torch.equal(model.classify(images()), exact)


def test_published_weights_have_to_be_complete_and_fit():
    model, weights, _, _ = published("mnist_4")
    before = copy.deepcopy(model.state_dict())
    bias = weights["conv_bias.2"]
    lacking = {k: v for k, v in weights.items() if k != "conv_bias.2"}
    with pytest.raises(InputError, match=r"Missing: conv_bias\.2\. Unknown or double: none"):
        model.load_published(lacking)
    for extra in ("skip_area.1.weight", "area1.bias", "conv_bias.7", "module.conv_bias.2"):
        with pytest.raises(InputError, match=f"Unknown or double: {extra}"):
            model.load_published(weights | {extra: bias})
    with pytest.raises(ShapeError, match=r"conv_bias\.2 of shape \(128, 28, 28\), got \(128,"):
        model.load_published(weights | {"conv_bias.2": bias[:, :14]})
    with pytest.raises(InputError, match="finite"):
        model.load_published(weights | {"conv_bias.2": bias / 0})
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.load_published(weights)
    assert torch.equal(model.area3.bias, bias)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"depth": 3}, "depth 2, 4, 6 or 8, got 3"),
        ({"classes": 0}, "positive classes"),
        ({"image_size": (8, 0)}, "positive classes and channels and an image_size"),
        ({"dt_ms": 20.0}, "tau_ms expected finite values >= 20"),
        ({"dt_ms": 0.0}, "0 < dt_ms"),
        ({"dt_ms": 4.0, "learnable": True}, "at most 2 where tau is learned"),
        ({"tau_ms": (10.0, 10.0)}, "4 entries, one per area, got 2"),
    ],
)
def test_impossible_networks_are_refused(settings, match):
    with pytest.raises(InputError, match=match):
        small(**settings)


def test_bad_input_is_explained():
    model = small()
    with pytest.raises(ShapeError, match=r"last three are \(2, 19, 14\)"):
        model.classify(images()[0])
    with pytest.raises(ShapeError, match="floating-point"):
        model.classify(images().long())
    with pytest.raises(ShapeError, match="at least one frame"):
        model.classify(images()[None][:0])
    with pytest.raises(InputError, match="stimulus_ms to be a multiple of dt_ms=2"):
        model.classify(images(), stimulus_ms=3.0)
    with pytest.raises(InputError, match="warmup_ms"):
        model.classify(images(), warmup_ms=-2.0)
    with pytest.raises(InputError, match="not on movies"):
        model.classify(images()[None], converged=1e-3)
    with pytest.raises(UnknownNameError, match="Did you mean 'steps'"):
        model.classify(images(), gradient="step")
    with pytest.raises(UnknownNameError, match="no area named '5'"):
        model.trace(images(), [5])
    with pytest.raises(InputError, match="at least one step"):
        model.trace(images(), [1], 0.0, 0.0)
    with pytest.raises(InputError, match="tolerance above 0"):
        model.settle(images(), tolerance=0.0)
    with pytest.raises(ShapeError, match="state of 4 areas for a batch of 3"):
        model(images(3), model.initial_state(images(2)))
