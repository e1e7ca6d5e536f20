"""The feed-forward twin of CordsNet, which learns in its place, and how it is folded.

    twin     z_k = N'_k(R_k * N_k(V_k * u_k))     r_k = relu(z_k)     R_k = I + E_k
    folded   z_k = W_k * (U_k * u_k) + b_k        the same numbers, N with its running statistics

    N(x) = g x + c, N'(x) = g' x + c'     U = g V     W = g' R     b = g' (R * c) + c'

u, stem, skips and readout are those of :class:`calcarine.models.CordsNet`, N and N' batch
normalisations. c is an image of constant channels: the zero padding of R makes b differ along the
border, so it is one number per unit. R is written as its difference E from the identity, from which
it starts and to which weight decay pulls it: recurrence can only reproduce W as (I - A)^-1, and an
A with three by three kernels exists if W is not far from the identity (ours).

What a channel of U gains and W loses changes nothing, so the folded twin is balanced: every
channel is scaled so that W is closest to the identity (ours).

Axes    B batch | c channels of the image | C channels | H W rows down, columns right
Source  soo2024; batch normalisation ioffe2015
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.distributed import SyncedBatchNorm2d
from calcarine.models._cordsnet_checks import check_images, checked_size
from calcarine.models._cordsnet_layout import AreaLayout, area_layouts, new_skip, new_stem
from calcarine.models.soo2024 import CordsNet
from calcarine.stage import Stage

__all__ = ["CordsNetTwin", "FoldedArea", "FoldedTwin", "Responses", "start_from"]

DEVIATION = 0.3
"""Spread of E at the start, times 1 / sqrt(9 C): small next to the identity. Ours."""

LEAST_SHARE = 0.1
"""A channel is balanced by its own weight in W if that is this share of all its weights. Ours."""


class Responses(NamedTuple):
    """What every area of a twin receives, U * u, and makes of it, z; first to last."""

    fed: tuple[Tensor, ...]
    drive: tuple[Tensor, ...]


class FoldedArea(NamedTuple):
    """One area without normalisation: z = W * (U * u) + b."""

    feedforward: Float[Tensor, "C c 3 3"]
    recurrent: Float[Tensor, "C C 3 3"]
    bias: Float[Tensor, "C H W"]
    stride: int

    def feed(self, u: Float[Tensor, "B c h w"]) -> Float[Tensor, "B C H W"]:
        """Return U * u."""
        return F.conv2d(u, self.feedforward, stride=self.stride, padding=1)

    def drive(self, fed: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return z of what :meth:`feed` returns."""
        return F.conv2d(fed, self.recurrent, padding=1) + self.bias

    def balanced(self) -> FoldedArea:
        """Return the same area with every channel scaled so that W is closest to the identity."""
        own = self.recurrent[:, :, 1, 1].diagonal()
        total = self.recurrent.square().sum((0, 2, 3))
        usable = own.abs() > LEAST_SHARE * total.sqrt()
        scale = torch.where(usable, total / torch.where(usable, own, torch.ones_like(own)), 1.0)
        return self._replace(
            feedforward=self.feedforward * scale[:, None, None, None],
            recurrent=self.recurrent / scale[:, None, None],
        )


class FoldedTwin(NamedTuple):
    """A twin without normalisation: the weights of a CordsNet before they become recurrent."""

    stem: Float[Tensor, "64 c 7 7"]
    areas: tuple[FoldedArea, ...]
    skips: tuple[Float[Tensor, "C D k k"], ...]
    readout: Float[Tensor, "classes C"]
    readout_bias: Float[Tensor, " classes"]

    def responses(self, images: Float[Tensor, "B c H W"]) -> Responses:
        """Return what reaches every area and what it makes of it."""
        fed: list[Tensor] = []

        def drive(k: int, u: Tensor) -> Tensor:
            fed.append(self.areas[k].feed(u))
            return self.areas[k].drive(fed[-1])

        z = _pass(images, self.stem, self.skips, len(self.areas), drive)
        return Responses(tuple(fed), tuple(z))

    def logits(self, images: Float[Tensor, "B c H W"]) -> Float[Tensor, "B classes"]:
        """Return the logits of the twin in evaluation mode."""
        return F.linear(_average(self.responses(images).drive), self.readout, self.readout_bias)


class _TwinArea(nn.Module):
    """Feed-forward convolution, normalisation, recurrent convolution once, normalisation."""

    def __init__(self, layout: AreaLayout) -> None:
        super().__init__()
        channels, self.size, self.stride = layout.channels, layout.size, layout.stride
        self.feedforward = nn.Conv2d(
            layout.below, channels, 3, stride=self.stride, padding=1, bias=False
        )
        self.feedforward_norm = SyncedBatchNorm2d(channels)
        spread = DEVIATION / (9 * channels) ** 0.5
        self.deviation = nn.Parameter(spread * torch.randn(channels, channels, 3, 3))
        self.recurrent_norm = SyncedBatchNorm2d(channels)

    def kernel(self) -> Float[Tensor, "C C 3 3"]:
        """Return R, the identity and the learned difference."""
        own = torch.eye(len(self.deviation)).to(self.deviation)
        return self.deviation + F.pad(own[:, :, None, None], (1, 1, 1, 1))

    def forward(self, u: Float[Tensor, "B c h w"]) -> Float[Tensor, "B C H W"]:
        """Return z."""
        x = self.feedforward_norm(self.feedforward(u))
        return self.recurrent_norm(F.conv2d(x, self.kernel(), padding=1))

    @torch.no_grad()
    def folded(self) -> FoldedArea:
        """Return the area with its normalisations carried out."""
        (gain, shift), (gain_after, shift_after) = (
            _affine(self.feedforward_norm), _affine(self.recurrent_norm)
        )  # fmt: skip
        recurrent = gain_after[:, None, None, None] * self.kernel()
        constant = shift[None, :, None, None].expand(1, -1, *self.size)
        bias = F.conv2d(constant, recurrent, padding=1)[0] + shift_after[:, None, None]
        feedforward = gain[:, None, None, None] * self.feedforward.weight
        return FoldedArea(feedforward, recurrent, bias, self.stride)


class CordsNetTwin(Stage):
    """Feed-forward convolutional network with the areas and connections of a CordsNet.

    >>> twin = CordsNetTwin(depth=2, classes=10, channels=1, image_size=32).eval()
    >>> twin(torch.rand(4, 1, 32, 32)).shape
    torch.Size([4, 10])

    Args:
        depth: Number of areas: 2, 4, 6 or 8.
        classes: Number of classes.
        channels: Channels of the image.
        image_size: Height and width of the image, px, or one number for both; any size.

    Raises:
        InputError: If the depth is none of these, or a count is not positive.
    """

    sources: ClassVar[tuple[str, ...]] = ("ioffe2015", "soo2024")

    def __init__(
        self,
        *,
        depth: Literal[2, 4, 6, 8] = 8,
        classes: int = 1000,
        channels: int = 3,
        image_size: int | tuple[int, int] = 224,
    ) -> None:
        super().__init__()
        self.size = checked_size(depth, classes, channels, image_size)
        self.depth, self.classes = depth, classes
        self.channels, self.image_size = channels, image_size
        self.stem, self.skip2 = new_stem(channels), new_skip()
        layouts = area_layouts(depth, self.size)
        for area in layouts:
            self.add_module(f"area{area.number}", _TwinArea(area))
            if area.skipped:
                self.add_module(f"skip{area.number}", new_skip(area))
        self.readout = nn.Linear(layouts[-1].channels, classes)

    @property
    def areas(self) -> tuple[_TwinArea, ...]:
        """The areas, first to last."""
        return tuple(getattr(self, f"area{k}") for k in range(1, self.depth + 1))

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B classes"]:
        """Return the logits of images.

        Raises:
            ShapeError: If the images do not fit the model.
        """
        check_images(x, (4,), (self.channels, *self.size))
        areas = self.areas
        z = _pass(x, self.stem.weight, self._skips(), self.depth, lambda k, u: areas[k](u))
        return self.readout(_average(z))

    @torch.no_grad()
    def folded(self) -> FoldedTwin:
        """Return the weights without normalisation, balanced, cut off from the parameters."""
        return FoldedTwin(
            self.stem.weight.clone(),
            tuple(area.folded().balanced() for area in self.areas),
            tuple(skip.clone() for skip in self._skips()),
            self.readout.weight.clone(),
            self.readout.bias.clone(),
        )

    def _skips(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, f"skip{k}").weight for k in range(2, self.depth + 1, 2))


@torch.no_grad()
def start_from(model: CordsNet, folded: FoldedTwin) -> None:
    """Give a CordsNet the weights of a folded twin, and a recurrence that begins to resemble it.

    Stem, feed-forward kernels, skips and readout are taken over. The recurrent kernel A and the
    bias a should make r = A r + a + fed settle where the twin is, r = W fed + b. To first order
    in W - I, that is A = W - I and a = (I - A) b (ours); learning does the rest.

    Args:
        model: A network of the same depth, classes, channels and image size.
        folded: The twin.
    """
    names = (f"skip{k}" for k in range(2, model.depth + 1, 2))
    for name, kernel in zip(names, folded.skips, strict=True):
        _set_kernel(getattr(model, name), kernel)
    _set_kernel(model.stem, folded.stem)
    _set_kernel(model.readout, folded.readout)
    model.readout.bias.copy_(folded.readout_bias)
    for area, twin in zip(model.areas, folded.areas, strict=True):
        identity = torch.eye(area.channels).to(twin.recurrent)[:, :, None, None]
        recurrent = twin.recurrent - F.pad(identity, (1, 1, 1, 1))
        _set_kernel(area.feedforward, twin.feedforward)
        _set_kernel(area.recurrent, recurrent)
        area.bias.copy_(twin.bias - F.conv2d(twin.bias[None], recurrent, padding=1)[0])


def _set_kernel(module: nn.Module, kernel: Tensor) -> None:
    """Set a weight-normalised kernel: its length per output, and itself as direction."""
    gain = module.get_parameter("parametrizations.weight.original0")
    direction = module.get_parameter("parametrizations.weight.original1")
    length = kernel.flatten(1).norm(dim=1).reshape(gain.shape)
    gain.copy_(length)
    # A kernel of length 0 has no direction; any will do, and it can still learn its length.
    direction.copy_(torch.where(length > 0, kernel, direction))


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return gain and shift of a batch normalisation with its running statistics."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return gain, norm.bias - gain * norm.running_mean


def _pass(
    images: Tensor,
    stem: Tensor,
    skips: Sequence[Tensor],
    depth: int,
    drive: Callable[[int, Tensor], Tensor],
) -> list[Tensor]:
    """Return z of every area; ``drive(k, u)`` is that of area k."""
    h = F.avg_pool2d(F.conv2d(images, stem, stride=2, padding=3), 3, 2, 1)
    z = [drive(0, h), ]  # fmt: skip
    for k in range(1, depth):
        below = h if k == 1 else torch.relu(z[k - 2])
        if k % 2:
            stride, padding = (1, 1) if k == 1 else (2, 0)
            below = F.conv2d(below, skips[k // 2], stride=stride, padding=padding)
        z.append(drive(k, torch.relu(z[k - 1]) + below))
    return z


def _average(z: Sequence[Tensor]) -> Float[Tensor, "B C"]:
    """Return the average over positions of the rectified sum of the last two areas."""
    return (torch.relu(z[-1]) + torch.relu(z[-2])).mean((2, 3))
