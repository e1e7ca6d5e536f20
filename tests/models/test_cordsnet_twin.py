"""The twin: folding is exact up to the border, and recurrence can settle where the twin is."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from calcarine.errors import InputError, ShapeError
from calcarine.models import CordsNet, CordsNetTwin
from calcarine.models.cordsnet_twin import FoldedArea, start_from
from calcarine.training.cordsnet_trial import Trial, trial_answers


def trained(depth: int, size: tuple[int, int], dtype=torch.float64, channels=2) -> CordsNetTwin:
    """A twin in whose normalisations nothing is left as it starts."""
    torch.manual_seed(depth)
    generator = torch.Generator().manual_seed(depth)
    twin = CordsNetTwin(depth=depth, classes=5, channels=channels, image_size=size).to(dtype)

    def drawn(like, low, high):
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=dtype)

    for area in twin.areas:
        for norm in (area.feedforward_norm, area.recurrent_norm):
            norm.weight.data = drawn(norm.weight, 0.7, 1.4)
            norm.bias.data = drawn(norm.bias, -0.5, 0.5)
            norm.running_mean.copy_(drawn(norm.running_mean, -0.3, 0.3))
            norm.running_var.copy_(drawn(norm.running_var, 0.5, 1.5))
    return twin.eval()


def images(size, dtype=torch.float64, batch=3, channels=2):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(batch, channels, *size, generator=generator, dtype=dtype)


@pytest.mark.parametrize(
    ("depth", "size"), [(2, (32, 32)), (4, (37, 50)), (6, (29, 31)), (8, (41, 23)), (2, (1, 1))]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_folding_changes_nothing(depth, size, dtype, tolerance):
    twin, shown = trained(depth, size, dtype), images(size, dtype)
    folded = twin.folded()
    assert (twin(shown) - folded.logits(shown)).abs().max() < tolerance
    assert twin(shown).std() > 0.01
    for area in twin.areas:
        x = torch.randn(2, area.feedforward.in_channels, *(area.stride * n for n in area.size))
        once = area.folded()
        difference = area(x.to(dtype)) - once.drive(once.feed(x.to(dtype)))
        assert difference.abs().max() < tolerance


def test_the_bias_differs_along_the_border():
    bias = trained(2, (32, 32)).area1.folded().bias
    inner = bias[:, 1:-1, 1:-1]
    assert (inner - inner[:, :1, :1]).abs().max() < 1e-12
    assert (bias[:, 0, 1:-1] - inner[:, 0, :1]).abs().max() > 0.01


def test_balancing_keeps_the_numbers_and_brings_the_kernel_to_the_identity():
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    identity = functional.pad(torch.eye(6, dtype=torch.float64)[:, :, None, None], (1, 1, 1, 1))
    gains = torch.tensor([3.0, -2.0, 0.1, 1.0, 20.0, 0.5], dtype=torch.float64)
    kernel = (identity + 0.05 * drawn(6, 6, 3, 3)) * gains[:, None, None]
    area = FoldedArea(drawn(6, 4, 3, 3), kernel, drawn(6, 7, 5), 1)
    even, u = area.balanced(), drawn(2, 4, 7, 5)
    torch.testing.assert_close(even.drive(even.feed(u)), area.drive(area.feed(u)))
    assert (even.recurrent - identity).norm() < 0.2 * (area.recurrent - identity).norm()
    # No other scale of the channels comes closer.
    for factor in (0.99, 1.01):
        assert (factor * even.recurrent - identity).norm() > (even.recurrent - identity).norm()


def test_balancing_leaves_a_channel_without_own_weight():
    kernel = torch.zeros(2, 2, 3, 3)
    kernel[0, 0, 1, 1], kernel[0, 1, 0, 0] = 2.0, 1.0
    even = FoldedArea(torch.ones(2, 1, 3, 3), kernel, torch.zeros(2, 3, 3), 1).balanced()
    assert torch.equal(even.feedforward[:, 0, 0, 0], torch.tensor([2.0, 1.0]))
    assert even.recurrent[0, 0, 1, 1] == 1.0
    assert even.recurrent[0, 1, 0, 0] == 1.0


@pytest.mark.parametrize(("depth", "size"), [(2, (13, 22)), (4, (21, 14)), (8, (18, 11))])
def test_a_linear_recurrence_settles_where_the_twin_is(depth, size):
    """W without neighbours has an exact inverse: A = I - W^-1 and a = (I - A) b."""
    twin, shown = trained(depth, size), images(size)
    with torch.no_grad():
        for area in twin.areas:
            area.deviation *= 0.5
            area.deviation[:, :, 0], area.deviation[:, :, 2] = 0, 0
            area.deviation[:, :, :, 0], area.deviation[:, :, :, 2] = 0, 0
    model = CordsNet(depth=depth, classes=5, channels=2, image_size=size).double()
    folded = twin.folded()
    start_from(model, folded)
    weights = model.folded()
    areas = []
    for area, mine in zip(folded.areas, weights.areas, strict=True):
        inverse = torch.linalg.inv(area.recurrent[:, :, 1, 1])
        own = torch.eye(len(inverse), dtype=torch.float64) - inverse
        bias = torch.einsum("ij,jhw->ihw", inverse, area.bias)
        recurrent = functional.pad(own[:, :, None, None], (1, 1, 1, 1))
        areas.append(mine._replace(recurrent=recurrent, bias=bias))
    weights = weights._replace(areas=tuple(areas)).detached()
    found = trial_answers(weights, shown, Trial(warmup=20, on=250), slope=1.0)
    torch.testing.assert_close(found, twin(shown), rtol=1e-6, atol=1e-6)


def test_the_start_is_right_to_first_order():
    """Halving what lies between W and the identity leaves a quarter of the error."""

    @torch.no_grad()
    def error(strength):
        twin = trained(2, (20, 16))
        area = twin.area1
        area.deviation.mul_(strength)
        for norm in (area.feedforward_norm, area.recurrent_norm):
            norm.reset_parameters()
            norm.bias.data.fill_(0.3)
        folded = twin.folded()
        model = CordsNet(depth=2, classes=5, channels=2, image_size=(20, 16)).double()
        start_from(model, folded)
        mine, theirs = model.folded().areas[0], folded.areas[0]
        fed = theirs.feed(torch.ones(1, 64, *area.size, dtype=torch.float64))
        r = torch.zeros_like(fed)
        for _ in range(60):
            r = functional.conv2d(r, mine.recurrent, padding=1) + mine.bias + fed
        return (r - theirs.drive(fed)).norm() / theirs.drive(fed).norm()

    first, second = error(0.1).item(), error(0.05).item()
    assert first < 0.02
    assert second / first == pytest.approx(0.25, abs=0.05)


def test_weights_are_taken_over_exactly():
    twin = trained(4, (33, 18), torch.float32)
    model = CordsNet(depth=4, classes=5, channels=2, image_size=(33, 18))
    folded = twin.folded()
    start_from(model, folded)
    torch.testing.assert_close(model.stem.weight, folded.stem)
    torch.testing.assert_close(model.skip2.weight, folded.skips[0])
    torch.testing.assert_close(model.skip4.weight, folded.skips[1])
    torch.testing.assert_close(model.readout.weight, folded.readout)
    torch.testing.assert_close(model.readout.bias, folded.readout_bias)
    for mine, theirs in zip(model.areas, folded.areas, strict=True):
        torch.testing.assert_close(mine.feedforward.weight, theirs.feedforward)


def test_a_recurrence_without_weights_can_still_learn():
    twin = CordsNetTwin(depth=2, classes=5, channels=2, image_size=16).eval()
    with torch.no_grad():
        for area in twin.areas:
            area.deviation.zero_()
            area.recurrent_norm.running_var.fill_(1 - area.recurrent_norm.eps)
    model = CordsNet(depth=2, classes=5, channels=2, image_size=16)
    start_from(model, twin.folded())
    assert model.area1.recurrent.weight.norm() < 1e-4
    model.area1.recurrent.weight.sum().backward()
    for parameter in model.area1.recurrent.parameters():
        assert torch.isfinite(parameter.grad).all()


def test_the_twin_learns_a_class_from_its_brightness():
    twin = CordsNetTwin(depth=2, classes=2, channels=1, image_size=12).train()
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
    for _ in range(30):
        targets = torch.randint(2, (16,), generator=generator)
        shown = torch.rand(16, 1, 12, 12, generator=generator) + targets[:, None, None, None]
        loss = functional.cross_entropy(twin(shown), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1


def test_bad_input():
    with pytest.raises(InputError, match="depth 2, 4, 6 or 8, got 3"):
        CordsNetTwin(depth=3)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="pass image"):
        CordsNetTwin(depth=2, classes=3, image_size=16)(torch.rand(3, 16, 16))
