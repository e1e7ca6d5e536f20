"""Products with the Fisher information matrix of a model at an image, without forming it.

    F = J^T J        J = d response / d image, at the image; responses with unit Gaussian noise
    F v = pull(push(v)),   push(v) = J v (forward mode),   pull(u) = J^T u (reverse mode)

A complex response counts as its real and imaginary parts. Every batch item has its own F: the
items of a batch are taken to be independent.

Axes    B image batch | b vectors per image | n components of an image | m of a response
Source  berardino2017
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import CalcarineWarning, InputError

__all__ = ["FisherProduct"]

# Ours: numbers of image and response that one vectorised pass may hold, 16 MiB in fp32.
_NUMBERS_AT_ONCE = 2**22


class FisherProduct:
    """The linear map v -> F v at one batch of images.

    ``torch.func.linearize`` would save the repeated forward pass of the model, but its constant
    folding returns wrong numbers for models that pad circularly (torch 2.13), so it is not used.

    Args:
        model: Differentiable callable image -> response, batch first; real or complex.
        image: Where the model is linearised.

    Attributes:
        image: The image, a copy.
        products: Vectors multiplied by F so far, per image.
        forward_mode: False once the model turned out to have an operation without forward-mode
            derivative; J v is then the transpose of the linear map u -> J^T u.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], image: Float[Tensor, "B C H W"]) -> None:
        self._model = model
        self.products = 0
        self.forward_mode = True
        self._vectorised = True
        with torch.inference_mode(False), torch.enable_grad():
            self.image = image.detach().clone()
            self._leaf = self.image.clone().requires_grad_()
            self._response = self._real_response(self._leaf)
        self._pulled = (self._leaf, self._leaf)  # u and J^T u, where forward mode fails

    @property
    def image_size(self) -> int:
        """Components n of one image."""
        return self.image[0].numel()

    @property
    def response_size(self) -> int:
        """Real components m of the response to one image."""
        return self._response[0].numel()

    def __call__(self, vectors: Float[Tensor, "B b n"]) -> Float[Tensor, "B b n"]:
        """Return F v for every vector."""
        self.products += vectors.shape[1]
        return self.pull(self.push(vectors))

    def push(self, vectors: Float[Tensor, "B b n"]) -> Float[Tensor, "B b m"]:
        """Return J v for every vector.

        Raises:
            InputError: If the model has no forward-mode derivative, and its reverse-mode derivative
                cannot be differentiated.
        """
        if self.forward_mode:
            try:
                return self._map(self._push_one, torch.func.vmap(self._push_one), vectors)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError) as error:
                self._leave_forward_mode(error)
        return self._map(self._transpose_one, self._transpose_many, vectors)

    def pull(self, vectors: Float[Tensor, "B b m"]) -> Float[Tensor, "B b n"]:
        """Return J^T u for every vector."""
        return self._map(self._pull_one, self._pull_many, vectors)

    def matrix(self) -> Float[Tensor, "B n n"]:
        """Return F itself, from the rows of J or from products, whichever is less work."""
        batch, n, m = len(self.image), self.image_size, self.response_size
        by_rows = m < 2 * n
        size = m if by_rows else n
        result = self.image.new_zeros(batch, n, n)
        for start in range(0, size, self._chunk):
            stop = min(start + self._chunk, size)
            units = result.new_zeros(stop - start, size)
            units.diagonal(start).fill_(1)
            units = units.expand(batch, -1, -1)
            if by_rows:
                rows = self.pull(units)
                result += rows.mT @ rows
            else:
                result[:, start:stop] = self(units)
        return result

    def _real_response(self, image: Tensor) -> Tensor:
        response = self._model(image)
        return torch.view_as_real(response) if response.is_complex() else response

    def _push_one(self, tangent: Tensor) -> Tensor:
        return torch.func.jvp(self._real_response, (self.image,), (tangent.view_as(self.image),))[1]

    def _pull_one(self, u: Tensor, *, batched: bool = False) -> Tensor:
        u = u.reshape(*u.shape[: int(batched)], *self._response.shape)
        return torch.autograd.grad(
            self._response, self._leaf, u, retain_graph=True, is_grads_batched=batched
        )[0]

    def _pull_many(self, u: Tensor) -> Tensor:
        return self._pull_one(u, batched=True)

    def _transpose_one(self, v: Tensor, *, batched: bool = False) -> Tensor:
        u, pulled = self._pulled
        v = v.reshape(*v.shape[: int(batched)], *pulled.shape)
        return torch.autograd.grad(pulled, u, v, retain_graph=True, is_grads_batched=batched)[0]

    def _transpose_many(self, v: Tensor) -> Tensor:
        return self._transpose_one(v, batched=True)

    def _leave_forward_mode(self, error: Exception) -> None:
        """Differentiate u -> J^T u, which is linear, once; its transpose is v -> J v."""
        try:
            with torch.inference_mode(False), torch.enable_grad():
                u = torch.zeros_like(self._response, requires_grad=True)
                (pulled,) = torch.autograd.grad(
                    self._response, self._leaf, u, create_graph=True, materialize_grads=True
                )
                torch.autograd.grad(pulled, u, torch.zeros_like(pulled), retain_graph=True)
        except RuntimeError as second:
            raise InputError(
                "Eigendistortion needs J v, the change of the response along a direction. The "
                f"model has no forward-mode derivative ({_first_line(error)}), and its "
                f"reverse-mode derivative cannot be differentiated ({_first_line(second)}). Give "
                "its custom autograd functions a jvp, or build it from torch operations."
            ) from error
        self.forward_mode, self._pulled = False, (u, pulled)
        warnings.warn(
            f"The model has no forward-mode derivative ({_first_line(error)}). Eigendistortion "
            "takes J v as the transpose of J^T u instead, which needs more memory.",
            CalcarineWarning,
            stacklevel=2,
        )

    @property
    def _chunk(self) -> int:
        return max(1, _NUMBERS_AT_ONCE // (self.image.numel() + self._response.numel()))

    def _map(
        self,
        one: Callable[[Tensor], Tensor],
        many: Callable[[Tensor], Tensor],
        vectors: Float[Tensor, "B b i"],
    ) -> Float[Tensor, "B b o"]:
        """Apply a linear map, which works on one vector of every batch item, to b of them."""
        batch, count, _ = vectors.shape
        stacked = vectors.transpose(0, 1)
        images: list[Tensor] = []
        if count > 1 and self._vectorised:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "There is a performance drop")
                    images = [many(some) for some in stacked.split(self._chunk)]
            except RuntimeError:
                self._vectorised = False  # an operation of the model cannot be vectorised
        images = images or [one(vector)[None] for vector in stacked]
        return torch.cat(images).reshape(count, batch, -1).transpose(0, 1)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
