from __future__ import annotations

import socket
import subprocess
import sys

import numpy as np
import pytest
import torch

from calcarine import stimuli
from calcarine.errors import InputError, MissingDependencyError, UnknownNameError
from calcarine.stimuli import (
    HELD_OUT_SAMPLES,
    TRAINING_SAMPLES,
    sample_image,
    sample_image_names,
)


def test_every_sample_loads_without_a_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a sample image asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    names = sample_image_names()
    assert len(names) == 27
    assert list(names) == sorted(names)
    for name in names:
        image = sample_image(name)
        assert image.shape[0] == 1
        assert image.shape[1] in (1, 3)
        assert min(image.shape[-2:]) >= 100
        assert 0 <= image.min() < image.max() <= 1


@pytest.mark.parametrize("name", ["astronaut", "camera", "cat", "coffee", "retina"])
def test_samples_equal_those_of_scikit_image(name):
    from skimage import data

    expected = np.atleast_3d(getattr(data, name)())
    image = sample_image(name, dtype=torch.double)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(np.rint(image * 255), expected)


def test_groups_are_disjoint_colour_photographs():
    assert not set(TRAINING_SAMPLES) & set(HELD_OUT_SAMPLES)
    assert set(TRAINING_SAMPLES + HELD_OUT_SAMPLES) <= set(sample_image_names())
    for name in TRAINING_SAMPLES + HELD_OUT_SAMPLES:
        image = sample_image(name)
        assert image.shape[1] == 3
        assert (image.amax(1) - image.amin(1)).mean() > 0.05  # colourful


def test_options_are_passed_on():
    assert sample_image("coffee", size=20, channels="gray").shape == (1, 1, 20, 30)
    assert sample_image("camera", channels="rgb", dtype=torch.half).dtype == torch.half


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="Did you mean 'astronaut'"):
        sample_image("astronat")
    with pytest.raises(InputError, match="name of a sample image"):
        sample_image(3)


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingDependencyError, match=r"calcarine\[data\]"):
        sample_image("astronaut")
    assert sample_image_names() == ("china", "flower")
    assert sample_image("china").shape == (1, 3, 427, 640)


def test_importing_is_light():
    assert all(hasattr(stimuli, name) for name in stimuli.__all__)
    code = (
        "import sys, calcarine.stimuli; heavy = {'PIL', 'datasets', 'skimage', 'sklearn', 'scipy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
