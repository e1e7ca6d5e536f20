"""The whole retina: outputs, geometry, modes, swapping, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from calcarine.errors import CalcarineWarning, InputError, ShapeError, UnknownNameError
from calcarine.retina import (
    FixationalDrift,
    FovealSampling,
    GivenPath,
    LateralInhibition,
    Retina,
    RetinalSpikes,
    cone_mosaic,
)
from calcarine.stage import Stage

SANDBOX = {"sampling": "uniform", "inhibition": False}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def scene(retina, batch=2, margin=0, seed=0, dtype=torch.float32):
    side = retina.scene_size + margin
    shape = (batch, len(retina.cone_types), side, side + 3)
    return torch.rand(shape, generator=generator(seed), dtype=dtype)


@pytest.mark.parametrize("sampling", ["fovea", "uniform"])
@pytest.mark.parametrize("inhibition", [False, True])
@pytest.mark.parametrize(("spikes", "on_off"), [(None, False), ("lif", False), ("lif", True)])
@pytest.mark.parametrize("motion", ["shifts", "drift"])
def test_outputs_have_the_documented_shapes(sampling, inhibition, spikes, on_off, motion):
    retina = Retina(
        16,
        sampling=sampling,
        inhibition=inhibition,
        spikes=spikes,
        on_off=on_off,
        motion=motion,
        frames=3,
    )
    x = scene(retina)
    kept = x.clone()
    out = retina(x, generator())
    window = 32 if sampling == "fovea" else 16
    assert retina.window == window
    assert retina.scene_size == window + 30
    channels = (2,) if on_off else ()
    assert out.optic_nerve.shape == (2, 3, *channels, 16, 16)
    assert out.eye_shift.shape == (2, 2, 2)
    assert out.sampled.shape == (2, 3, 3, 16, 16)
    assert out.activation.shape == out.bipolar.shape == (2, 3, 16, 16)
    assert out.field_of_view.shape == (2, 3, 3, window, window)
    assert torch.equal(x, kept)
    assert out.optic_nerve.std() > 0
    assert out.eye_shift.any()
    if spikes:
        assert set(out.optic_nerve.unique().tolist()) == {0.0, 1.0}
    snapshot = retina.snapshot(x)
    assert snapshot.shape == (2, 2 if on_off else 1, 16, 16)
    assert torch.equal(snapshot, retina.snapshot(x))


def test_the_stages_are_chained_as_documented():
    retina = Retina(16, spikes="lif", frames=6).eval()
    x = scene(retina)
    out = retina(x)
    assert torch.equal(out.sampled, retina.sampling(out.field_of_view))
    assert torch.equal(out.activation, retina.activation(out.sampled))
    assert torch.allclose(out.bipolar, retina.inhibition(out.activation), atol=1e-7)
    state = retina.spikes.initial_state(out.bipolar[:, 0])
    for frame in range(6):
        spikes, state = retina.spikes(out.bipolar[:, frame], state)
        assert torch.equal(out.optic_nerve[:, frame], spikes)
    assert out.optic_nerve.sum() > 0


def test_eye_shift_says_how_the_image_moved():
    """Sampling the first frame's cells one shift further gives the second frame."""
    retina = Retina(20, **SANDBOX, mosaic="L").eval()
    x = scene(retina, batch=1)
    out = retina(x, path=torch.tensor([[[0, 0], [4, -3]]]))
    assert torch.allclose(out.eye_shift, torch.tensor([[[4.0, -3.0]]]) * 2 / 20)
    first, second = out.optic_nerve[0]
    assert torch.equal(second[3:, :-4], first[:-3, 4:])


@pytest.mark.parametrize("retina", [Retina(16), Retina(16, **SANDBOX)], ids=["full", "sandbox"])
def test_eval_is_deterministic_and_batch_items_are_independent(retina):
    retina.eval()
    x = scene(retina, batch=3)
    out = retina(x)
    for again, kept in zip(retina(x), out, strict=True):
        assert torch.equal(again, kept)
    alone = retina(x[1:2])
    for part, whole in zip(alone, out, strict=True):
        assert torch.allclose(part, whole[1:2], atol=1e-6)
    assert out.eye_shift.any()
    retina.train()


def test_training_moves_every_eye_by_itself_and_repeats_with_the_generator():
    retina = Retina(16, **SANDBOX)
    x = scene(retina, batch=4)
    first, again = retina(x, generator(5)), retina(x, generator(5))
    assert torch.equal(first.optic_nerve, again.optic_nerve)
    assert not torch.equal(first.optic_nerve, retina(x, generator(6)).optic_nerve)
    assert first.eye_shift[:, 0].unique(dim=0).shape[0] > 1
    assert not torch.equal(retina(x).eye_shift, retina(x).eye_shift)


def test_noise_is_added_in_training_only_and_can_be_switched_off():
    still = torch.zeros(1, 2, 2)
    noisy, quiet = Retina(24, **SANDBOX), Retina(24, **SANDBOX, noise=False)
    x = scene(noisy, batch=1)
    clean = quiet(x, path=still).optic_nerve
    assert torch.equal(clean[:, 0], clean[:, 1])
    deviations = [
        (noisy(x, generator(seed), path=still).optic_nerve - clean).std().item()
        for seed in range(8)
    ]
    assert 0.001 < max(deviations) < 0.01
    assert torch.equal(noisy.eval()(x, generator(), path=still).optic_nerve, clean)
    noisy.train()
    assert torch.equal(noisy.snapshot(x), clean[:, :1])


@pytest.mark.parametrize("motion", ["shifts", "drift"])
def test_movements_end_at_the_border_of_a_small_scene(motion):
    retina = Retina(16, **SANDBOX, motion=motion, frames=12)
    x = torch.rand(3, 3, 16, 22)
    out = retina(x, generator())
    gaze = (out.eye_shift * 8).round().cumsum(1)
    assert gaze[..., 0].abs().max() == 3
    assert not gaze[..., 1].any()


def test_swapped_stages_are_used():
    class Half(Stage):
        def forward(self, x):
            return x / 2

    retina = Retina(16, spikes="lif").eval()
    x = scene(retina)
    before = retina(x)
    retina.spikes = None
    retina.inhibition = Half()
    out = retina(x)
    assert torch.equal(out.optic_nerve, before.activation / 2)
    assert torch.equal(retina.snapshot(x), out.optic_nerve[:, :1])
    retina.eye_motion = GivenPath([[2, 1], [0, 0]])
    assert torch.allclose(retina(x).eye_shift, torch.tensor([-2.0, -1.0]) * 2 / retina.window)
    retina.eye_motion = FixationalDrift(8)
    retina.sampling = FovealSampling(16, layout="horizontal_streak")
    retina.inhibition = LateralInhibition(5)
    retina.spikes = RetinalSpikes(on_off=True)
    assert retina(x).optic_nerve.shape == (2, 2, 2, 16, 16)
    retina.activation.use_mosaic(cone_mosaic("L", 16))
    assert torch.equal(retina.mosaic[0], torch.ones(16, 16))


@pytest.mark.parametrize("settings", [{}, SANDBOX, {"spikes": "lif"}, {"sampling": "uniform"}])
def test_snapshot_passes_gradients_to_what_the_cones_see(settings):
    retina = Retina(12, mosaic="MS", **settings)
    x = scene(retina, batch=1, dtype=torch.float64).requires_grad_()
    response = retina.snapshot(x)
    assert response.dtype == torch.float64
    (gradient,) = torch.autograd.grad(response.sum(), x)
    assert gradient.isfinite().all()
    assert not gradient[:, 0].any()  # no L cones
    assert gradient[:, 1].any()
    assert not gradient[:, :, :10].any()  # beyond the field of view
    if "spikes" not in settings:
        assert torch.autograd.gradcheck(retina.snapshot, x, fast_mode=True)


def test_frames_pass_gradients_too():
    retina = Retina(12, spikes=None)
    x = scene(retina).requires_grad_()
    retina(x, generator()).optic_nerve.square().sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_followed(dtype):
    for mode in (True, False):
        retina = Retina(12, spikes="lif").train(mode)
        assert {part.dtype for part in retina(scene(retina, dtype=dtype), generator())} == {dtype}


def test_four_types_and_their_names():
    retina = Retina(16, mosaic="LMSQ", peaks_nm=(560, 530, 419, 545), **SANDBOX)
    assert retina.cone_types == "LMSQ"
    assert retina.mosaic.shape == (4, 16, 16)
    assert retina(scene(retina)).sampled.shape[2] == 4
    assert Retina(16, mosaic="LM", **SANDBOX).mosaic[2].sum() == 0


def test_seed_and_checkpoint_decide_the_retina():
    one, two = Retina(16, seed=1), Retina(16, seed=2)
    x = scene(one)
    assert not torch.equal(one.snapshot(x), two.snapshot(x))
    assert torch.equal(one.snapshot(x), Retina(16, seed=1).snapshot(x))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.snapshot(x), two.snapshot(x))
    drawn = Retina(16, seed=1, generator=generator(2))
    assert torch.equal(drawn.mosaic, Retina(16, seed=2).mosaic)
    assert isinstance(one, nn.Module)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"peaks_nm": (560.0, 419.0)}, InputError, "mosaic='LS'"),
        ({"mosaic": "LMSQ"}, InputError, "peaks_nm"),
        ({"mosaic": "SML"}, UnknownNameError, "cone mosaic"),
        ({"frames": 0}, InputError, "frames"),
        ({"size": 1}, InputError, "at least 2"),
        ({"max_shift_px": -1}, InputError, "max_shift_px"),
        ({"sampling": "foveal"}, UnknownNameError, "'fovea'"),
        ({"motion": "saccades"}, UnknownNameError, "drift"),
        ({"spikes": "LIF"}, UnknownNameError, "lif"),
        ({"layout": "streak"}, UnknownNameError, "horizontal_streak"),
    ],
)
def test_bad_settings_are_explained(settings, error, message):
    with pytest.raises(error, match=message):
        Retina(**{"size": 16, **settings})


def test_settings_without_effect_warn():
    with pytest.warns(CalcarineWarning, match="on_off"):
        Retina(8, on_off=True)
    with pytest.warns(CalcarineWarning, match="layout"):
        Retina(8, sampling="uniform", layout="two_foveas")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 46, 46), "scene\\[None\\]"),
        ((1, 4, 46, 46), "3 types"),
        ((1, 3, 15, 46), "at least 16 x 16 px.*46 x 46"),
    ],
)
def test_bad_scenes_are_explained(shape, message):
    retina = Retina(16, **SANDBOX)
    for look in (retina, retina.snapshot):
        with pytest.raises(ShapeError, match=message):
            look(torch.rand(shape))


def test_integer_scenes_and_short_paths_are_explained():
    retina = Retina(16, **SANDBOX)
    with pytest.raises(InputError, match="floating"):
        retina(torch.ones(1, 3, 46, 46).int())
    with pytest.raises(ShapeError, match="batch items"):
        retina(torch.rand(2, 3, 46, 46), path=torch.zeros(3, 2, 2))
