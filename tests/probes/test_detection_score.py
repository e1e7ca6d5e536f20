"""Scores of detections, counted by hand."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError
from calcarine.models import Detections
from calcarine.probes import score_detections
from calcarine.stimuli import DiskTruth


def truth(frames=2, visible=True):
    places = torch.tensor([[10.0, 10.0], [30.0, 30.0]]).double().expand(frames, 2, 2)
    shown = torch.full((frames, 2), visible)
    return DiskTruth(places, torch.tensor([0.3, 1.2]), torch.tensor([0, 2]), shown)


def listed(*rows):
    table = torch.tensor(rows, dtype=torch.double).reshape(-1, 4)
    frame, x, y, told = table.unbind(1)
    return Detections(frame.long(), x, y, told.long(), torch.ones(len(table)))


def test_counts_by_hand():
    found = listed((0, 11, 10, 0), (0, 30, 28, 1), (0, 20, 20, 1), (1, 10, 13.5, 0))
    score = score_detections(found, truth())
    assert score.precision == pytest.approx(2 / 4)
    assert score.recall == pytest.approx(2 / 4)
    assert score.speed_accuracy == pytest.approx(1 / 2)
    assert score.distance_px == pytest.approx(1.5)
    assert score.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert score.missed.tolist() == [1, 0, 1]
    assert score.spurious == 2


def test_pairing_finds_both_where_greed_would_find_one():
    places = torch.tensor([[[10.0, 10.0], [13.0, 10.0]]]).double()
    near = truth(1)._replace(center_px=places)
    found = listed((0, 12, 10, 0), (0, 15.9, 10, 2))
    assert score_detections(found, near).recall == 1.0


def test_two_detections_of_one_disk_count_once():
    score = score_detections(listed((0, 10, 10, 0), (0, 10, 11, 0)), truth(1))
    assert (score.precision, score.recall) == (0.5, 0.5)


def test_hidden_disks_count_neither_way():
    score = score_detections(listed((0, 10, 10, 0)), truth(1, visible=False))
    assert math.isnan(score.precision)
    assert math.isnan(score.recall)
    assert score.spurious == 0


def test_nothing_found_is_no_recall():
    assert score_detections(listed(), truth()).recall == 0.0
    assert score_detections(listed(), truth(), skip_frames=1).missed.sum() == 2


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="tolerance_px > 0"):
        score_detections(listed(), truth(), 0.0)
    with pytest.raises(InputError, match="frames 0 to 1"):
        score_detections(listed((7, 1, 1, 0)), truth())
    with pytest.raises(InputError, match="finite"):
        score_detections(listed((0, math.nan, 1, 0)), truth())
