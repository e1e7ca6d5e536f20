"""Which picture is where in an endless stream of epochs, without anything to remember.

    row j of batch n     picture pi_e(p),    n B + j = e N + p,    0 <= p < N

pi_e is a permutation that the seed and the number e of the epoch determine, so every epoch shows
every picture once, and batch n can be made without the ones before it. A batch may reach from one
epoch into the next.

Axes    N pictures | B rows of a batch
"""

from __future__ import annotations

import numpy as np
import torch

from calcarine.errors import InputError
from calcarine.stimuli._checks import is_count

__all__ = [
    "CROPS",
    "JITTER",
    "MIXING",
    "OPERATIONS",
    "ORDER",
    "Epochs",
    "generator_of",
    "own_rows",
    "seed_of",
]

ORDER, CROPS, OPERATIONS, MIXING, JITTER = range(1, 6)
"""What a seed is used for, so that no two uses share their random numbers."""


def seed_of(*numbers: int) -> int:
    """Mix whole numbers of at least 0 into a seed; other numbers give an unrelated one."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


def generator_of(*numbers: int) -> torch.Generator:
    """Return a generator on the CPU that whole numbers determine."""
    return torch.Generator().manual_seed(seed_of(*numbers))


def own_rows(batch_size: int, part: tuple[int, int]) -> range:
    """Return the rows of a batch that one process of several takes: an equal run of neighbours.

    Args:
        batch_size: Rows of the whole batch.
        part: Number of the process, counted from 0, and how many there are.

    Raises:
        InputError: If there is no such process, or the rows cannot be shared equally.
    """
    rank, size = part
    if not (is_count(size) and 0 <= rank < size):
        raise InputError(f"Expected part as (rank, size) with 0 <= rank < size, got {part!r}.")
    if not is_count(batch_size) or batch_size % size:
        raise InputError(
            f"Expected a batch size of at least 1 that {size} process(es) can share equally, got "
            f"{batch_size!r}. Choose a multiple of {size}."
        )
    share = batch_size // size
    return range(rank * share, (rank + 1) * share)


class Epochs:
    """The order of pictures.

    Args:
        count: How many pictures there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._orders: dict[tuple[int, int], list[int]] = {}

    def rows(self, number: int, batch_size: int, seed: int) -> list[int]:
        """Return the pictures of a batch.

        Args:
            number: Number of the batch, counted from 0.
            batch_size: Rows of a batch.
            seed: What the orders follow from.

        Raises:
            InputError: If a number is negative.
        """
        if number < 0 or seed < 0:
            raise InputError(
                f"Expected the number of a batch and a seed of at least 0, got {number} and {seed}."
            )
        places = range(number * batch_size, (number + 1) * batch_size)
        return [self._order(seed, place // self.count)[place % self.count] for place in places]

    def _order(self, seed: int, epoch: int) -> list[int]:
        """Return the permutation of an epoch; those used last are kept."""
        if (seed, epoch) not in self._orders:
            while len(self._orders) > 2:
                del self._orders[next(iter(self._orders))]
            order = torch.randperm(self.count, generator=generator_of(seed, ORDER, epoch))
            self._orders[seed, epoch] = order.tolist()
        return self._orders[seed, epoch]
