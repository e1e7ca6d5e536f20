"""Physical constants: what they evaluate to, where they broadcast, what is refused."""

import math

import pytest
import torch

from calcarine.constants import Constant
from calcarine.errors import InputError, ShapeError


def test_one_fixed_number_is_exactly_that_number_in_every_precision():
    constant = Constant("tau_ms", 0.1).half()
    assert constant(torch.zeros(2, 3)) == 0.1
    assert constant.state_dict()["value"].dtype == torch.float64


def test_loading_a_state_dict_changes_the_number():
    constant = Constant("tau_ms", 0.1)
    constant.load_state_dict(Constant("tau_ms", 7.0).state_dict())
    assert constant(torch.zeros(2, 3)) == 7.0


@pytest.mark.parametrize(("low", "high"), [(1.0, 1000.0), (-1.0, 2.0), (-math.inf, math.inf)])
def test_a_learned_value_starts_as_given_and_gets_gradients(low, high):
    constant = Constant("v", [1.5, 1.25], low=low, high=high, learnable=True).double()
    value = constant(torch.zeros(4, 2, 3, dtype=torch.float64))
    assert value.shape == (2, 1)
    torch.testing.assert_close(
        value.flatten(), torch.tensor([1.5, 1.25]).double(), rtol=1e-6, atol=0
    )
    value.sum().backward()
    assert (constant.raw.grad != 0).all()


def test_a_learned_value_never_leaves_its_bounds():
    constant = Constant("tau_ms", 10.0, low=1.0, high=100.0, learnable=True).double()
    for raw, expected in [(-1e6, 1.0), (1e6, 100.0), (0.0, 10.0)]:
        constant.raw.data.fill_(raw)
        assert constant.current().item() == pytest.approx(expected)


def test_values_per_channel_and_per_unit_follow_the_batch_axis():
    frame = torch.zeros(5, 2, 3, 4)
    assert Constant("v", [1.0, 2.0])(frame).shape == (2, 1, 1)
    assert Constant("v", torch.ones(2, 3, 4))(frame).shape == (2, 3, 4)
    with pytest.raises(ShapeError, match=r"v has values of shape \(3,\)"):
        Constant("v", [1.0, 2.0, 3.0])(frame)


@pytest.mark.parametrize("value", [0.5, math.nan, math.inf, 11.0, [1.0, 20.0], []])
def test_values_beyond_their_bounds_are_refused(value):
    with pytest.raises(InputError, match=r"tau_ms expected finite values >= 1 and <= 10"):
        Constant("tau_ms", value, low=1.0, high=10.0)


def test_learning_needs_both_bounds_or_none():
    with pytest.raises(InputError, match="two bounds or none"):
        Constant("tau_ms", 2.0, low=1.0, learnable=True)


def test_printing_says_value_unit_and_whether_it_learns():
    assert repr(Constant("tau_ms", 10.0)) == "Constant(tau_ms=10)"
    learned = Constant("tau_ms", [5.0, 20.0], low=1.0, high=99.0, learnable=True)
    assert repr(learned) == "Constant(tau_ms=5 .. 20, learned)"
