"""Velocity tuning: what is counted, and the bands of the disk network."""

from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError
from calcarine.models import DiskVelocityNet
from calcarine.probes import velocity_tuning
from calcarine.stage import Stage


class Copies(Stage):
    """Events as two channels of spikes, the second silent."""

    def forward(self, x):
        return torch.cat([x, 0 * x], 1)


def test_counts_the_events_of_the_disk():
    """An edge sweeps 4 r v pixels per frame; all of them lie within r + 1 of the centre."""
    tuning = velocity_tuning(Copies(), (0.5, 1.0), seeds=(0, 1), near_px=7.0, noise=0.0)
    torch.testing.assert_close(
        tuning.responses[0], torch.tensor([10.0, 20.0]).double(), rtol=0.1, atol=0
    )
    assert tuning.responses[1].sum() == 0
    assert tuning.sem.shape == (2, 2)
    assert (tuning.sem[0] > 0).all()


def test_every_channel_answers_to_its_own_band():
    """Peak in its own band, and below a fifth of it in the middle of the other bands."""
    net = DiskVelocityNet()
    responses = velocity_tuning(net, net.speeds, seeds=range(100, 104), frames=100).responses
    for channel, curve in enumerate(responses):
        assert curve.argmax() == channel
        others = torch.cat([curve[:channel], curve[channel + 1 :]])
        assert others.max() < 0.2 * curve[channel]


@pytest.mark.parametrize(
    "wrong", [{"speeds": ()}, {"seeds": (1,)}, {"settle": 200}, {"directions": ()}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match="velocity_tuning expected"):
        velocity_tuning(Copies(), **wrong)
