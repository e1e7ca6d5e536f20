from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError
from calcarine.stimuli import EventStream


def random_stream(events: int = 300, size: tuple[int, int] = (6, 9), start_us: int = 0):
    generator = torch.Generator().manual_seed(2)

    def draw(end: int) -> torch.Tensor:
        return torch.randint(0, end, (events,), generator=generator)

    time = draw(30_000).sort().values + start_us
    return EventStream(time, draw(size[1]), draw(size[0]), draw(2), size=size)


def rows(stream: EventStream) -> list[tuple[int, int, int, int]]:
    columns = (stream.t_us, stream.x, stream.y, stream.polarity.long())
    return list(zip(*(c.tolist() for c in columns), strict=True))


@pytest.mark.parametrize("at_ms", [None, 0.0, 12.345, 29.0, 100.0])
@pytest.mark.parametrize("tau_ms", [0.5, 20.0])
def test_time_surface_is_the_decay_since_the_last_event(at_ms, tau_ms):
    stream = random_stream()
    at = stream.t_us[-1].item() if at_ms is None else round(at_ms * 1000)
    expected = torch.zeros(2, 6, 9, dtype=torch.float64)
    for t, x, y, p in rows(stream):
        if t <= at:
            expected[p, y, x] = math.exp((t - at) / (1000 * tau_ms))
    surface = stream.time_surface(tau_ms, at_ms, dtype=torch.float64)
    assert torch.allclose(surface, expected, rtol=1e-12, atol=0)
    assert surface.max() <= 1
    assert (at_ms == 0.0) or surface.any()


def test_an_event_at_this_very_time_counts_and_later_ones_do_not():
    stream = EventStream([1000, 2000], [0, 1], [0, 0], [1, 1], size=(1, 2))
    assert stream.time_surface(1.0, 1.0)[1, 0].tolist() == [1, 0]
    assert stream.time_surface(1.0, 2.0)[1, 0].tolist() == pytest.approx([math.exp(-1), 1])
    assert not stream.time_surface(1.0, 2.0)[0].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_surfaces_are_exact_on_a_late_clock(dtype):
    early, late = random_stream(), random_stream(start_us=1_700_000_000_000_000)
    for settings in ({"tau_ms": 5.0, "dtype": dtype},):
        assert torch.equal(early.time_surface(**settings), late.time_surface(**settings))
        assert torch.equal(early.local_surfaces(1, **settings), late.local_surfaces(1, **settings))
        assert early.time_surface(**settings).dtype == dtype


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_local_surfaces_see_only_what_came_before(radius):
    """Against the definition, one event and one neighbour at a time."""
    stream = random_stream(120)
    tau_ms, side = 8.0, 2 * radius + 1
    expected = torch.zeros(120, 2, side, side, dtype=torch.float64)
    last: dict[tuple[int, int, int], int] = {}
    for i, (t, x, y, p) in enumerate(rows(stream)):
        last[p, y, x] = t
        for q in range(2):
            for v in range(-radius, radius + 1):
                for u in range(-radius, radius + 1):
                    seen = last.get((q, y + v, x + u))
                    if seen is not None:
                        decayed = math.exp((seen - t) / (1000 * tau_ms))
                        expected[i, q, v + radius, u + radius] = decayed
    found = stream.local_surfaces(radius, tau_ms, dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=1e-12, atol=0)
    own = found[torch.arange(120), stream.polarity.long(), radius, radius]
    assert torch.equal(own, torch.ones_like(own))
    chosen = torch.tensor([100, 3, 3])
    part = stream.local_surfaces(radius, tau_ms, events=chosen, dtype=torch.float64)
    assert torch.equal(part, found[chosen])


def test_local_surfaces_come_in_parts_that_change_nothing(monkeypatch):
    from calcarine.stimuli import event_surfaces

    stream = random_stream()
    whole = stream.local_surfaces(2, 5.0)
    monkeypatch.setattr(event_surfaces, "CHUNK", 333)
    assert torch.equal(stream.local_surfaces(2, 5.0), whole)
    assert whole.any()


@pytest.mark.parametrize("tau_ms", [0, -1.0, float("nan"), float("inf"), "5"])
def test_impossible_time_constants(tau_ms):
    with pytest.raises(InputError, match="tau_ms as a finite number above 0"):
        random_stream().time_surface(tau_ms)
    with pytest.raises(InputError, match="tau_ms as a finite number above 0"):
        random_stream().local_surfaces(1, tau_ms)


def test_impossible_settings():
    stream = random_stream(20)
    with pytest.raises(InputError, match="at_ms as a finite time"):
        stream.time_surface(1.0, float("nan"))
    with pytest.raises(InputError, match="radius_px as a whole number >= 0"):
        stream.local_surfaces(-1, 1.0)
    with pytest.raises(InputError, match="event numbers from 0 to 19, got 3 to 20"):
        stream.local_surfaces(1, 1.0, events=torch.tensor([3, 20]))
    with pytest.raises(InputError, match=r"mask\.nonzero"):
        stream.local_surfaces(1, 1.0, events=stream.polarity)
