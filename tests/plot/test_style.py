"""Figures leave the rest of the program as it was, and are saved whole."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from calcarine.errors import InputError, MissingDependencyError
from calcarine.plot import figure_png, image_grid, save_figure
from calcarine.plot.style import cone_names, new_figure, update_axis


@pytest.fixture
def figure():
    return image_grid(torch.rand(2, 3, 4, 5), titles=["a", "b"])


def test_a_png_has_the_size_of_the_figure(figure):
    picture = Image.open(io.BytesIO(figure_png(figure, dpi=50)))
    assert picture.format == "PNG"
    assert picture.size == tuple(int(side * 50) for side in figure.get_size_inches())
    assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?")]
)
def test_saving_follows_the_suffix(figure, tmp_path, suffix, start):
    path = save_figure(figure, tmp_path / "new" / f"figure.{suffix}")
    assert path.read_bytes().startswith(start)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_saved_is_refused(figure, tmp_path):
    with pytest.raises(InputError, match=r"\.png"):
        save_figure(figure, tmp_path / "figure.docx")
    with pytest.raises(InputError, match="dpi"):
        figure_png(figure, dpi=0)
    assert not list(tmp_path.iterdir())


def test_plotting_touches_no_global_state():
    """Neither pyplot nor rcParams nor the choice of a backend."""
    code = """
import sys, torch, matplotlib
settings = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'}
before = settings()
from calcarine.plot import figure_png, image_grid, loss_curve
figure_png(image_grid(torch.rand(2, 1, 3, 3)))
figure_png(loss_curve([{"update": 1, "loss/a": 2.0}]))
assert "matplotlib.pyplot" not in sys.modules
assert settings() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_users_own_style_does_not_leak_in():
    import matplotlib

    with matplotlib.rc_context({"axes.facecolor": "black", "figure.facecolor": "black"}):
        figure, [[ax]] = new_figure()
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert ax.get_facecolor() == (1, 1, 1, 1)


def test_a_notebook_can_show_a_figure_and_a_process_can_send_it(figure):
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert pickle.loads(pickle.dumps(figure))._repr_png_().startswith(b"\x89PNG")


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"calcarine\[viz\]"):
        image_grid(torch.rand(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("ages", "scale", "marks"),
    [
        ([0, 100, 200, 500, 1000], "symlog", [0, 100, 200, 500, 1000]),
        ([0, 100, 5000, 6000], "symlog", [0, 100, 6000]),
        ([10, 1000], "symlog", [10, 1000]),
        ([0], "linear", [0]),
        ([0, 2, 4], "linear", [0, 2, 4]),
    ],
)
def test_ages_are_marked_first_and_last_included(ages, scale, marks):
    _, [[ax]] = new_figure()
    update_axis(ax, ages)
    assert ax.get_xscale() == scale
    assert ax.get_xticks().tolist() == marks


def test_cone_names():
    assert cone_names(4) == "LMSQ"
    with pytest.raises(InputError):
        cone_names(5)
