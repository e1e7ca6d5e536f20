"""Cone mosaics: which pigment sits in which cell, before and after gene therapy.

    LMS             L : M = 1.92 : 1 at random; then S cones, visited in random order, wherever the
                    6 x 6 neighbourhood holds none yet
    L  M  S         one type only
    LM  LS  MS      two types: of an LMS mosaic the S (M, L) cones become L or M (L, M)
    LMSQ            half of the L cones carry Q instead
    A+X_replace_B   mosaic A, where X replaces the pigment in a random half of the B cells
    A+X_coexpress_B ... half X and half the pigment before
    A+X_ratio_B     ... r of X and 1 - r of the pigment before, r ~ U(0, 1) in every cell

B may name several types ("LM+S_ratio_LM"). With the same seed A+X_... and A alone share every cell
that therapy does not touch.

Axes    (types, height, width), planes always in the order L, M, S (, Q), summing to 1 per cell
Source  kotani2024; carroll2000 for L : M, mancuso2009 for therapy
"""

from __future__ import annotations

import re
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError, UnknownNameError

__all__ = ["MOSAIC_KINDS", "cone_fractions", "cone_mosaic"]

MOSAIC_KINDS = ("L", "LM", "LMS", "LMSQ", "LS", "M", "MS", "S")
THERAPIES = ("coexpress", "ratio", "replace")
L_PER_M = 1.92  # kotani2024
# Rows and columns of the 6 x 6 neighbourhood, relative to the cell: kotani2024.
NEIGHBOURS_BEFORE, NEIGHBOURS_AFTER = 3, 2
TOUCHED_SHARE = 0.5  # of the treated type; kotani2024
THERAPY = re.compile(r"(?P<base>[^+_]*)\+(?P<added>[^+_]*)_(?P<how>[^+_]*)_(?P<into>[^+_]*)")


def cone_mosaic(
    kind: str = "LMS",
    size: int | tuple[int, int] = 64,
    *,
    types: Literal["LMS", "LMSQ"] | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "T H W"]:
    """Lay out a mosaic of cones.

    Args:
        kind: A name of ``MOSAIC_KINDS``, or a therapy such as ``"MS+L_replace_M"``.
        size: Cells along each side, or (height, width).
        types: Planes of the result. When left out, ``"LMSQ"`` if the kind mentions Q, else
            ``"LMS"``. A type that the mosaic lacks has an empty plane.
        seed: Seed of the layout, used when no generator is given.
        generator: Source of randomness on the CPU.

    Returns:
        Share of each pigment in each cell, in the default dtype.

    Raises:
        UnknownNameError: If there is no such kind or therapy.
        InputError: If a therapy is not spelled out, or adds and treats types that do not fit.
    """
    height, width = _check_size(size)
    base, therapy = _parse(kind)
    planes = _check_types(kind, types)
    if generator is None:
        generator = torch.Generator().manual_seed(seed)
    labels = _base_labels(base, height, width, generator)
    mosaic = torch.zeros(len(planes), height * width, dtype=torch.get_default_dtype())
    mosaic.scatter_(0, labels[None], 1.0)
    if therapy is not None:
        added, how, into = therapy
        _treat(mosaic, labels, planes.index(added), how, [planes.index(b) for b in into], generator)
    return mosaic.view(len(planes), height, width)


def cone_fractions(mosaic: Float[Tensor, "T H W"]) -> dict[str, float]:
    """Share of each pigment in the whole mosaic, by type; the shares sum to 1.

    Raises:
        ShapeError: If the mosaic has not three or four planes.
    """
    if mosaic.ndim != 3 or mosaic.shape[0] not in (3, 4):
        raise ShapeError(
            "cone_fractions expected a mosaic with axes (type, height, width) and planes L, M, S "
            f"(, Q), got shape {tuple(mosaic.shape)}."
        )
    shares = mosaic.double().mean((1, 2)).tolist()
    return dict(zip("LMSQ", shares, strict=False))


def _parse(kind: str) -> tuple[str, tuple[str, str, str] | None]:
    if not isinstance(kind, str):
        raise InputError(f"Expected the kind of a mosaic as a name, got {kind!r}.")
    if "+" not in kind:
        if kind not in MOSAIC_KINDS:
            raise UnknownNameError("cone mosaic", kind, MOSAIC_KINDS)
        return kind, None
    match = THERAPY.fullmatch(kind)
    if match is None:
        raise InputError(
            f"The therapy {kind!r} is not spelled as MOSAIC+NEW_how_TREATED with how one of "
            f"{', '.join(THERAPIES)}, for example 'MS+L_replace_M' or 'LM+S_coexpress_LM'."
        )
    base, added, how, into = match.group("base", "added", "how", "into")
    if base not in MOSAIC_KINDS:
        raise UnknownNameError("cone mosaic", base, MOSAIC_KINDS)
    if how not in THERAPIES:
        raise UnknownNameError("gene therapy", how, THERAPIES)
    _check_therapy(kind, base, added, into)
    return base, (added, how, into)


def _check_therapy(kind: str, base: str, added: str, into: str) -> None:
    if len(added) != 1 or added not in "LMSQ":
        raise InputError(
            f"The therapy {kind!r} must add exactly one of the types L, M, S and Q, got {added!r}."
        )
    if not into or len(set(into)) != len(into) or not set(into) <= set(base):
        raise InputError(
            f"The therapy {kind!r} must treat types that the mosaic {base!r} has, each named once, "
            f"got {into!r}."
        )
    if added in into:
        raise InputError(
            f"The therapy {kind!r} adds {added} to {added} cones, which changes nothing."
        )


def _check_types(kind: str, types: str | None) -> str:
    if types is None:
        return "LMSQ" if "Q" in kind else "LMS"
    if types not in ("LMS", "LMSQ"):
        raise UnknownNameError("set of cone types", str(types), ("LMS", "LMSQ"))
    if "Q" in kind and "Q" not in types:
        raise InputError(
            f"The mosaic {kind!r} holds Q cones, but the planes are {types!r}. Pass types='LMSQ' "
            "(for a retina: four peaks_nm)."
        )
    return types


def _check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(s, int) and s > 0 for s in sides):
        raise InputError(f"Expected size as a number of cells or (height, width), got {size!r}.")
    return sides[0], sides[1]


def _base_labels(base: str, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Index into L, M, S, Q of every cell, flattened row by row."""
    if len(base) == 1:
        return torch.full((height * width,), "LMS".index(base))
    draws = torch.rand(height * width, generator=generator)
    labels = (draws >= L_PER_M / (L_PER_M + 1)).long()
    labels[_short_wave_cells(height, width, generator)] = 2
    if base == "LM":
        short = labels == 2
        coins = torch.randint(2, labels.shape, generator=generator)
        return torch.where(short, coins, labels)
    if base == "LS":
        labels[labels == 1] = 0
    elif base == "MS":
        labels[labels == 0] = 1
    elif base == "LMSQ":
        labels[_random_half(labels == 0, generator)] = 3
    return labels


def _short_wave_cells(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Cells of the S cones: visited in random order, taken where no S cone is near."""
    order = torch.randperm(height * width, generator=generator).tolist()
    # A placed cone is near for the cells whose neighbourhood contains it. The padding spares
    # the loop its border cases; rows are bytes, because that is the fastest memory to test.
    stride = width + NEIGHBOURS_BEFORE + NEIGHBOURS_AFTER
    near = bytearray(stride * (height + NEIGHBOURS_BEFORE + NEIGHBOURS_AFTER))
    reach = NEIGHBOURS_BEFORE + NEIGHBOURS_AFTER + 1
    run = b"\x01" * reach
    taken = []
    for cell in order:
        row, column = divmod(cell, width)
        corner = row * stride + column
        if near[corner + NEIGHBOURS_AFTER * (stride + 1)]:
            continue
        taken.append(cell)
        for start in range(corner, corner + reach * stride, stride):
            near[start : start + reach] = run
    return torch.tensor(taken)


def _random_half(chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Indices of a random half of the cells where ``chosen`` holds."""
    cells = chosen.nonzero()[:, 0]
    count = round(TOUCHED_SHARE * cells.numel())
    return cells[torch.randperm(cells.numel(), generator=generator)[:count]]


def _treat(
    mosaic: Tensor,
    labels: Tensor,
    added: int,
    how: str,
    into: list[int],
    generator: torch.Generator,
) -> None:
    """Change the pigment of a random half of the treated cells, in place."""
    cells = _random_half(torch.isin(labels, torch.tensor(into)), generator)
    share = {
        "replace": lambda: torch.ones(cells.shape),
        "coexpress": lambda: torch.full(cells.shape, 0.5),
        "ratio": lambda: torch.rand(cells.shape, generator=generator),
    }[how]().to(mosaic)
    mosaic[:, cells] *= 1 - share
    mosaic[added, cells] += share
