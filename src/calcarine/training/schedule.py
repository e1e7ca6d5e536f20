"""The learning rate as a function of the update alone.

    warm(u)  = min(1, (u + 1) / warmup_updates)
    decay(u) = 1                                        constant
               f + (1 - f) (1 + cos(pi p)) / 2          cosine
               10^-(number of rate_drops <= u)          step
    p(u)     = (u - warmup_updates) / (updates - 1 - warmup_updates), at most 1
    rate(u)  = learning_rate * warm(u) * decay(u)

u counts the updates already done, so the first update has u = 0 and the last u = updates - 1,
where the cosine ends at f * learning_rate. In a run of several phases u and updates are those of
the phase. Without memory there is nothing to save, and a resumed run has exactly the rates of a run
that never stopped.

Source  loshchilov2017 (cosine decay, without restarts)
"""

from __future__ import annotations

import bisect
import math

from calcarine.training.settings import TrainingSettings

__all__ = ["learning_rate"]


def learning_rate(settings: TrainingSettings, update: int) -> float:
    """Return the learning rate of the update that follows ``update`` finished ones.

    Args:
        settings: Peak rate, warm-up, and course, of the whole run or of its phases.
        update: Number of updates of the run already done.
    """
    if settings.phases:
        span = settings.span(update)
        settings, update = settings.of(span.phase), span.done
    rate, warmup = settings.learning_rate, settings.warmup_updates
    if settings.schedule == "step":
        rate /= 10 ** bisect.bisect_right(settings.rate_drops, update)
    if update < warmup:
        return rate * (update + 1) / warmup
    if settings.schedule != "cosine":
        return rate
    progress = min(1.0, (update - warmup) / max(1, settings.updates - 1 - warmup))
    floor = settings.final_rate_fraction
    return rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
