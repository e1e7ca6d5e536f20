"""The front ends: reference arrays, published parameters, formula, derivatives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from calcarine import cite, lgn
from calcarine.errors import InputError, ShapeError
from calcarine.testing import check_model

NAMES = {
    "linear_nonlinear": "LinearNonlinear",
    "luminance_gain_control": "LuminanceGainControl",
    "luminance_contrast_gain_control": "LuminanceContrastGainControl",
    "on_off": "OnOff",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_arrays(name, reference):
    stage = getattr(lgn, NAMES[name])(31, pretrained=True)
    assert torch.allclose(stage(reference["image"]), reference[name], atol=1e-5, rtol=0)


def test_the_small_reference_arrays_in_double_precision(reference):
    """Those arrays hold parameters of single precision in one case, of double in the other."""
    on_off = lgn.OnOff(
        7,
        pad_mode="circular",
        luminance_scalar=(3.2637, 14.3961),
        contrast_scalar=(7.3405, 16.7423),
        center_std=(0.7, 0.4),
        surround_std=(1.8, 1.1),
        luminance_std=(2.0, 1.1),
        contrast_std=(1.5, 1.2),
    )
    found = on_off(reference["small"])
    assert torch.allclose(found, reference["fim_out_on_off"], atol=1e-10, rtol=0)

    double = {"dtype": torch.float64}
    gain = lgn.LuminanceGainControl(
        7,
        pad_mode="circular",
        luminance_scalar=torch.tensor(14.95, **double),
        luminance_std=torch.tensor(1.2, **double),
        center_std=torch.tensor(0.7, **double),
        surround_std=torch.tensor(1.4, **double),
    )
    found = gain(reference["small"])
    expected = reference["fim_out_luminance_gain_control"]
    assert torch.allclose(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("pad_mode", ["reflect", "circular", "replicate", "zeros"])
@pytest.mark.parametrize("size", [(40, 33), (128, 100)])
def test_two_gain_controls_follow_the_formula(pad_mode, size, convolve):
    stage = lgn.LuminanceContrastGainControl(
        9,
        on_center=False,
        pad_mode=pad_mode,
        luminance_scalar=3.0,
        contrast_scalar=7.0,
        luminance_std=5.0,
        contrast_std=2.0,
        activation=torch.tanh,
    ).double()
    x = torch.rand(2, 1, *size, dtype=torch.float64)

    def blur(values, std):
        kernel = lgn.gaussian_kernel(9, torch.tensor([std], dtype=torch.float64))
        return convolve(values, kernel, pad_mode)

    linear = -1.25 * (blur(x, 1.0) - blur(x, 4.0))
    normed = linear / (1 + 3 * blur(x, 5.0))
    contrast = blur(normed**2, 2.0).sqrt() + 1e-6
    expected = torch.tanh(normed / (1 + 7 * contrast))
    assert torch.allclose(stage(x), expected, atol=1e-12, rtol=0)
    assert expected.std() > 0.01


@pytest.mark.parametrize("name", NAMES.values())
@pytest.mark.parametrize("pretrained", [False, True])
def test_parameters_are_exchanged_with_the_published_implementation(name, pretrained):
    plenoptic = pytest.importorskip("plenoptic")
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 1, 64, 70, generator=generator)
    ours = getattr(lgn, name)(31, pretrained=pretrained)
    settings = {"pretrained": True, "cache_filt": True} if pretrained else {}
    theirs = getattr(plenoptic.models, name)(31, **settings).requires_grad_(False)
    names = {key: value.shape for key, value in theirs.state_dict().items() if "_filt" not in key}
    assert names == {key: value.shape for key, value in ours.state_dict().items()}
    if pretrained:
        assert torch.allclose(ours(image), theirs(image), atol=1e-5, rtol=0)
    values = {
        key: value if key.endswith("ratio") else 0.5 + 5 * torch.rand(value.shape)
        for key, value in ours.state_dict().items()
    }
    fresh = getattr(plenoptic.models, name)(31).requires_grad_(False)
    ours.load_state_dict(values)
    fresh.load_state_dict(ours.state_dict())
    assert torch.allclose(ours(image), fresh(image), atol=1e-5, rtol=0)
    again = getattr(lgn, name)(31)
    again.load_state_dict(fresh.state_dict())
    assert torch.equal(again(image), ours(image))


@pytest.mark.parametrize("name", NAMES.values())
def test_a_fresh_front_end_can_be_probed_and_can_learn(name):
    stage = getattr(lgn, name)(7)
    image = torch.rand(2, 1, 20, 17)
    check_model(stage, image).raise_if_failed()
    stage.requires_grad_(True)
    stage(image).sum().backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in stage.parameters())


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr:UserWarning")  # of linearize
@pytest.mark.parametrize("size", [(24, 20), (128, 100)])
@pytest.mark.parametrize("pad_mode", ["reflect", "circular"])
@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("name", NAMES.values())
def test_every_way_of_differentiating_agrees(name, learn, pad_mode, size):
    stage = getattr(lgn, name)(7, pad_mode=pad_mode).double().requires_grad_(learn)
    generator = torch.Generator().manual_seed(2)
    x, v = torch.rand(2, 2, 1, *size, dtype=torch.float64, generator=generator)
    y, tangent = torch.func.jvp(stage, (x,), (v,))
    again, pull = torch.func.vjp(stage, x)
    assert torch.allclose(y, again, atol=1e-13)
    u = torch.randn(y.shape, dtype=y.dtype, generator=generator)
    assert (tangent * u).sum().item() == pytest.approx((pull(u)[0] * v).sum().item(), abs=1e-10)
    with torch.no_grad():
        expected = (stage(x + 1e-6 * v) - stage(x - 1e-6 * v)) / 2e-6
    assert torch.allclose(tangent, expected, atol=1e-8)
    assert tangent.abs().max() > 1e-3

    _, linear = torch.func.linearize(stage, x)
    assert torch.allclose(linear(v), tangent, atol=1e-13)
    tangents = torch.func.vmap(lambda w: torch.func.jvp(stage, (x,), (w,))[1])(torch.stack([v, -v]))
    assert torch.allclose(tangents[1], -tangent, atol=1e-13)
    pulled = torch.func.vmap(lambda w: pull(w)[0])(torch.stack([u, 2 * u]))
    assert torch.allclose(pulled[1], 2 * pull(u)[0], atol=1e-12)
    mapped = torch.func.vmap(stage, in_dims=1, out_dims=1)(torch.stack([x, v], dim=1))
    assert torch.allclose(mapped[:, 1], stage(v), atol=1e-13)


@pytest.mark.parametrize("pad_mode", ["reflect", "circular"])
def test_second_derivatives(pad_mode):
    for side in (8, 100):
        stage = lgn.LuminanceContrastGainControl(5, pad_mode=pad_mode).double()
        generator = torch.Generator().manual_seed(3)
        x, v = torch.rand(2, 1, 1, side, side, dtype=torch.float64, generator=generator)

        def slope(z, stage=stage):
            return torch.func.grad(lambda q: stage(q).square().sum())(z)

        curvature = torch.func.jvp(slope, (x,), (v,))[1]
        expected = (slope(x + 1e-5 * v) - slope(x - 1e-5 * v)) / 2e-5
        assert torch.allclose(curvature, expected, atol=1e-6)
        assert curvature.abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES.values())
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_uniform_images_have_finite_responses_and_gradients(name, value):
    stage = getattr(lgn, name)(31, pretrained=True, pad_mode="zeros")
    x = torch.full((1, 1, 100, 110), value, requires_grad=True)
    y = stage(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.isfinite(slope).all()
    middle = y[..., 40:60, 40:60]
    assert torch.allclose(middle, F.softplus(torch.zeros(())).expand_as(middle), atol=1e-5)


def test_colours_are_channels_of_their_own():
    for name in ("LinearNonlinear", "LuminanceGainControl", "LuminanceContrastGainControl"):
        stage = getattr(lgn, name)(7)
        x = torch.rand(2, 3, 20, 17)
        apart = torch.cat([stage(x[:, i : i + 1]) for i in range(3)], dim=1)
        assert torch.allclose(stage(x), apart, atol=1e-6)
    with pytest.raises(ShapeError, match="OnOff expected one channel"):
        lgn.OnOff(7)(x)


@pytest.mark.parametrize("size", [(32, 32), (21, 40)])
def test_the_mask_is_one_inside_and_zero_outside(size):
    plain, masked = lgn.OnOff(7), lgn.OnOff(7, apply_mask=True)
    x = torch.rand(1, 1, *size)
    mask = lgn.soft_disk(size, like=x)
    assert torch.allclose(masked(x), plain(x) * mask)
    assert mask[0, 0] == 0
    assert mask[size[0] // 2, size[1] // 2] == 1
    outer = (min(size) - 1) / 2
    row, column = size[0] // 2, size[1] // 2 + round(0.75 * outer)
    radius = ((row - (size[0] - 1) / 2) ** 2 + (column - (size[1] - 1) / 2) ** 2) ** 0.5
    expected = (1 + torch.cos(torch.tensor(torch.pi * (2 * radius / outer - 1)))) / 2
    assert mask[row, column].item() == pytest.approx(expected.item(), abs=1e-6)
    assert 0.1 < expected < 0.9


def test_the_mask_is_the_published_one():
    plenoptic = pytest.importorskip("plenoptic")
    like = torch.zeros((), dtype=torch.float64)
    for size in ((32, 32), (21, 40)):
        published = plenoptic.data.disk(size).double()
        assert torch.allclose(lgn.soft_disk(size, like), published, atol=1e-6)


def test_fitted_values_exclude_others():
    with pytest.raises(InputError, match="expected kernel_size=31"):
        lgn.OnOff(7, pretrained=True)
    with pytest.raises(InputError, match=r"sets center_std=0.5339, but center_std=2.0"):
        lgn.LinearNonlinear(31, pretrained=True, center_std=2.0)
    lgn.LinearNonlinear((31, 31), pretrained=True, center_std=0.5339)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: lgn.LinearNonlinear(7, center_std=(1.0, 2.0)), r"expected 1 value.*center_std"),
        (lambda: lgn.OnOff(7, luminance_std=(1.0, 2.0, 3.0)), r"expected 2 value.*luminance_std"),
        (lambda: lgn.OnOff(7, luminance_scalar=-1.0), "luminance_scalar >= 0"),
        (lambda: lgn.LuminanceGainControl(7, luminance_std=0.0), "std > 0"),
    ],
)
def test_impossible_settings_are_refused(make, match):
    with pytest.raises(InputError, match=match):
        make()


def test_front_ends_name_their_sources():
    assert "Eigen-Distortions" in cite(lgn.OnOff(7))
    assert "phdthesis" in cite(lgn.OnOff(7))
