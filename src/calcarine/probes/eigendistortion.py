"""Eigendistortions: what a model notices most and least at an image.

    F = J^T J,    F v = lambda v,    |v| = 1          J = d response / d image, at the image
    |model(image + a v) - model(image)|^2 -> a^2 lambda          for small a

What the numbers promise. The values are measured as |J v|^2 and the residuals as
|F v - lambda v| / lambda_max with products made after the solver has finished. Some eigenvalue of
F lies within a residual of every value. F has no negative eigenvalues, and no unit vector gives
less than the smallest, so at the small end the true smallest value lies between 0 and the reported
one: ``eigenvalues[-1]`` is its own error bar. Eigenvalues near zero are many and crowded in most
models; a small residual there says that the model hardly notices the vector, not that no other
vector is noticed less. Lower the tolerance to go further down.

Axes    B batch | C channel | H W rows down, columns right | k pairs per end | p = 2 k
Source  berardino2017
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError
from calcarine.interrupt import Interrupt
from calcarine.probes.extremal import Watch, exact_ends, lanczos_ends, power_ends
from calcarine.probes.fisher import FisherProduct
from calcarine.probes.krylov import KrylovSpace, length, not_finite
from calcarine.probes.saving import read_result, write_result
from calcarine.progress import open_progress
from calcarine.testing import check_model

__all__ = ["Eigendistortion"]

Method = Literal["auto", "exact", "lanczos", "power"]
Status = Literal["not started", "converged", "max_iter", "stalled", "interrupted"]

_KIND = "eigendistortion"
_EXACT_UP_TO = 1024  # components of an image; ours, from timings
_EXACT_AT_MOST = 2**14  # a matrix of 2 GiB in float64
_NUMBERS_IN_SPACE = 2**21  # vectors of the Krylov space times components; ours, from timings
_WIDEST = 8  # copies of one eigenvalue that the symmetries of a square produce


class Eigendistortion:
    """The most and the least noticeable distortions of an image, for a model.

    With one image the results have no batch axis; with several, every image has its own F, and
    the results have a leading batch axis.

    Args:
        image: Where the model is linearised.
        model: Differentiable callable image -> representation; complex representations count as
            real and imaginary parts.

    Attributes:
        eigenvalues: (p,) The k largest, then the k smallest, descending.
        eigendistortions: (p, C, H, W) Of unit norm; the component of largest size is positive.
        residuals: (p,) |F v - lambda v| relative to the largest eigenvalue.
        status: ``"converged"`` if every residual is within the tolerance; else ``"max_iter"``,
            ``"stalled"`` (the precision of the image allows no better) or ``"interrupted"``.
        vector_status: The same for every vector; in a batch the worst of the images.
        method: The method used last.
        products: Products with F so far, per image; the exact method may need none.
        seconds: Time spent so far.

    Raises:
        InputError: If the model cannot be probed, as :func:`calcarine.probes.check_model` says.
    """

    def __init__(self, image: Float[Tensor, "B C H W"], model: Callable[[Tensor], Tensor]) -> None:
        check_model(model, image).raise_if_failed()
        self.model = model
        self._fisher = FisherProduct(model, image)
        self.image = self._fisher.image
        empty = () if len(image) == 1 else (len(image),)
        self.eigenvalues = self.image.new_empty(*empty, 0)
        self.eigendistortions = self.image.new_empty(*empty, 0, *image.shape[1:])
        self.residuals = self.image.new_empty(*empty, 0)
        self.status: Status = "not started"
        self.vector_status: tuple[Status, ...] = ()
        self.method: str = "none"
        self.seconds = 0.0
        self._products_before = 0
        self._space: KrylovSpace | None = None

    @property
    def products(self) -> int:
        """Products with F so far, per image."""
        return self._products_before + self._fisher.products

    @property
    def k(self) -> int:
        """Pairs per end that were found."""
        return self.eigenvalues.shape[-1] // 2

    def synthesize(
        self,
        k: int = 1,
        method: Method = "auto",
        *,
        tolerance: float = 1e-3,
        max_iter: int = 1000,
        generator: torch.Generator | None = None,
        progress: bool = True,
    ) -> Eigendistortion:
        """Find the k most and the k least noticeable distortions.

        A second call with the same k goes on from what the first one found.

        Args:
            k: Pairs per end. Copies of a repeated eigenvalue are told apart up to 8.
            method: ``"exact"`` diagonalises F; ``"lanczos"`` needs products only; ``"power"`` is
                the published power iteration, for comparison; ``"auto"`` takes the exact one for
                images of up to 1024 components.
            tolerance: Residual, relative to the largest eigenvalue, that every vector shall reach.
            max_iter: Blocks of products (lanczos) or iterations per vector (power) at most.
            generator: Source of the first guesses; left out, they are the same in every run.
            progress: Whether to show the largest residual on the way.

        Raises:
            InputError: If a setting is impossible.
            NonFiniteError: If a derivative is NaN or infinite, with the product it appeared in.
        """
        chosen = self._check(k, method, tolerance, max_iter)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        began = time.perf_counter()
        total = max_iter * (2 * k if chosen == "power" else 1)
        with (
            closing(open_progress(total, 0, shown=progress, unit="iteration")) as bar,
            Interrupt() as interrupt,
        ):

            def watch(iteration: int, residual: float) -> bool:
                bar.values({"residual": residual})
                bar.advance(iteration)
                return interrupt.requested

            solve = {"exact": self._exact, "lanczos": self._lanczos, "power": self._power}[chosen]
            ended = solve(k, tolerance, max_iter, generator, watch)
        if interrupt.requested:
            ended = "interrupted"
        worst = self.residuals.reshape(-1, 2 * k).amax(0).tolist()
        self.vector_status = tuple("converged" if r <= tolerance else ended for r in worst)
        self.status = "converged" if max(worst) <= tolerance else ended
        self.method = chosen
        self.seconds += time.perf_counter() - began
        return self

    def _check(self, k: int, method: Method, tolerance: float, max_iter: int) -> str:
        """Refuse impossible settings; return the method to use."""
        n = self._fisher.image_size
        if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= n // 2:
            raise InputError(
                f"synthesize expected k from 1 to {n // 2}, half the components of the image, so "
                f"that 2 k distortions exist; got {k!r}."
            )
        if method not in get_args(Method):
            raise InputError(
                f"synthesize expected method as one of {', '.join(get_args(Method))}, got "
                f"{method!r}."
            )
        if not tolerance > 0:
            raise InputError(f"synthesize expected tolerance > 0, got {tolerance!r}.")
        if not isinstance(max_iter, int) or max_iter < 1:
            raise InputError(f"synthesize expected max_iter >= 1, got {max_iter!r}.")
        if method == "exact" and n > _EXACT_AT_MOST:
            raise InputError(
                f"The exact method holds an n x n matrix; an image of n = {n} components is too "
                "large. Use method='lanczos', or a smaller image."
            )
        return ("exact" if n <= _EXACT_UP_TO else "lanczos") if method == "auto" else method

    def _exact(
        self, k: int, tolerance: float, max_iter: int, generator: torch.Generator, watch: Watch
    ) -> Status:
        self._space = None
        self._measure(exact_ends(self._fisher.matrix(), k).to(self.image))
        return "stalled"

    def _power(
        self, k: int, tolerance: float, max_iter: int, generator: torch.Generator, watch: Watch
    ) -> Status:
        self._space = None
        start = self._vectors() if self.k == k else self._random(2 * k, generator)
        self._measure(
            power_ends(self._fisher, start, tolerance=tolerance, max_iter=max_iter, watch=watch)
        )
        return "max_iter"

    def _lanczos(
        self, k: int, tolerance: float, max_iter: int, generator: torch.Generator, watch: Watch
    ) -> Status:
        """Go on in the space of the last call, else from its vectors, else from noise."""
        space, best = self._space if self.k == k else None, float("inf")
        aim, finest = 0.9 * tolerance, torch.finfo(self.image.dtype).eps
        while True:
            if space is None:
                known = self.k == k
                start = self._vectors() if known else self._random(min(k, _WIDEST), generator)
                capacity = max(self._capacity, 4 * (k + start.shape[1]))
                space = KrylovSpace(self._fisher, start, capacity, generator)
            vectors, done, believed = lanczos_ends(
                space, k, tolerance=max(aim, finest), max_iter=max_iter, watch=watch
            )
            self._measure(vectors)
            self._space, worst = space, float(self.residuals.max())
            max_iter -= done
            if worst <= tolerance or not believed or max_iter < 1:
                return "max_iter"
            # The measurement contradicts the estimate: rounding errors have added up in the space.
            self._space = space = None
            if worst > 0.9 * best or aim < finest:
                return "stalled"
            best, aim = worst, aim / 2

    @property
    def _capacity(self) -> int:
        """Vectors between two restarts: few of a large image, all of a small one."""
        return min(256, max(32, _NUMBERS_IN_SPACE // self._fisher.image_size))

    def _vectors(self) -> Float[Tensor, "B p n"]:
        """Return what was found, as the solvers take it."""
        return self.eigendistortions.reshape(len(self.image), 2 * self.k, -1)

    def _random(self, count: int, generator: torch.Generator) -> Float[Tensor, "B b n"]:
        """Return directions, the same for every batch item: a batch does what its items do."""
        shape = count, self._fisher.image_size
        drawn = torch.randn(
            shape, generator=generator, device=generator.device, dtype=torch.float64
        )
        return drawn.to(self.image).expand(len(self.image), -1, -1)

    def _measure(self, vectors: Float[Tensor, "B p n"]) -> None:
        """Measure values and residuals with fresh products, sort, and keep the results."""
        k = vectors.shape[1] // 2
        vectors = vectors / length(vectors)
        largest = vectors.gather(-1, vectors.abs().argmax(-1, keepdim=True))
        vectors = torch.where(largest < 0, -vectors, vectors)
        values, residuals = self._judge(vectors)
        order = torch.cat(
            [
                values[:, :k].argsort(1, descending=True),
                k + values[:, k:].argsort(1, descending=True),
            ],
            dim=1,
        )
        images = vectors.gather(1, order[..., None].expand_as(vectors))
        images = images.reshape(len(vectors), 2 * k, *self.image.shape[1:])
        found = [values.gather(1, order), images, residuals.gather(1, order)]
        if len(vectors) == 1:
            found = [part[0] for part in found]
        self.eigenvalues, self.eigendistortions, self.residuals = found

    def _judge(self, vectors: Float[Tensor, "B p n"]) -> tuple[Tensor, Tensor]:
        """Return |J v|^2 and the relative residuals of unit vectors, (B, p) each."""
        responses = self._fisher.push(vectors)
        values = responses.square().sum(-1)
        rest = self._fisher.pull(responses) - values[..., None] * vectors
        self._fisher.products += vectors.shape[1]
        if not torch.isfinite(rest).all():
            raise not_finite("in a product with the Fisher matrix")
        top = values.amax(1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
        return values, length(rest)[..., 0] / top

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write image, results and how they were found to one .safetensors file.

        Raises:
            InputError: If the name ends otherwise.
            RunError: If the folder cannot be written.
        """
        tensors = {
            "image": self.image,
            "eigenvalues": self.eigenvalues,
            "eigendistortions": self.eigendistortions,
            "residuals": self.residuals,
        }
        facts: dict[str, Any] = {
            "status": self.status,
            "vector_status": list(self.vector_status),
            "method": self.method,
            "products": self.products,
            "seconds": self.seconds,
        }
        write_result(path, _KIND, tensors, facts)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], model: Callable[[Tensor], Tensor]
    ) -> Eigendistortion:
        """Read a result, to look at it or to go on; tensors go where the model is.

        Args:
            path: What :meth:`save` wrote.
            model: The model that it was made with.

        Raises:
            FileFormatError: If the file is missing, damaged or of another kind.
            InputError: If the model gives other eigenvalues for the vectors in the file.
        """
        tensors, facts = read_result(path, _KIND)
        device = _device(model)
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        made = cls(tensors["image"], model)
        made.eigenvalues, made.residuals = tensors["eigenvalues"], tensors["residuals"]
        made.eigendistortions = tensors["eigendistortions"]
        made.status, made.method = facts["status"], facts["method"]
        made.vector_status = tuple(facts["vector_status"])
        made.seconds = facts["seconds"]
        if made.k:
            made._recognise(path)
        made._products_before = facts["products"] - made._fisher.products
        return made

    def _recognise(self, path: str | os.PathLike[str]) -> None:
        """Refuse a model that is not the one that the results belong to."""
        values, _ = self._judge(self._vectors())
        known = self.eigenvalues.reshape(values.shape)
        allowed = known.amax() * torch.finfo(known.dtype).eps ** 0.5
        if not (values - known).abs().max() <= allowed:
            raise InputError(
                f"{path} was made with another model: it holds eigenvalues up to "
                f"{float(known.max()):.4g}, and this model gives up to {float(values.max()):.4g} "
                "for the same distortions. Pass the model with the parameters it had then."
            )


def _device(model: Callable[[Tensor], Tensor]) -> torch.device:
    """Return where a model is; the CPU where it does not say."""
    held = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    return held[0].device if held else torch.device("cpu")
