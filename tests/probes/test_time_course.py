"""Accuracy over time is that of networks whose answers are known at every moment."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.probes import accuracy_over_time
from calcarine.probes._proportions import standard_error, wilson
from calcarine.stage import DynamicStage, Pathway


class Count(NamedTuple):
    steps: Tensor


class Late(DynamicStage):
    """Images are (label, delay in steps): class 0 until the delay is over, then the label."""

    dt_ms = 2.0

    def __init__(self, classes: int = 4, height: float = 3.0) -> None:
        super().__init__()
        self.classes, self.height = classes, height

    def initial_state(self, like: Tensor) -> Count:
        return Count(torch.zeros_like(like[:, 0]))

    def forward(self, x: Tensor, state: Count) -> tuple[Tensor, Count]:
        shown = x[:, 1] > 0
        steps = (state.steps + 1) * shown
        told = torch.where((steps >= x[:, 1]) & shown, x[:, 0], 0).long()
        return self.height * nn.functional.one_hot(told, self.classes).to(x), Count(steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(6,), (1, 2, 3), (4, 2)])
def test_a_known_course_is_found_in_any_split_into_batches(dtype, sizes):
    labels = torch.tensor([1, 2, 3, 1, 0, 2])
    delays = torch.tensor([1, 2, 3, 5, 1, 50])
    images = torch.stack([labels, delays], 1).to(dtype)
    batches = list(zip(images.split(sizes), labels.split(sizes), strict=True))
    course = accuracy_over_time(Late(), batches, warmup_ms=8, stimulus_ms=12, off_ms=4)
    assert course.time_ms.tolist() == [2, 4, 6, 8, 10, 12, 14, 16]
    # Class 0 is always right; without an image the answer is class 0.
    right = torch.tensor([2, 3, 4, 4, 5, 5, 1, 1])
    assert torch.equal(course.accuracy, right / torch.tensor(6, dtype=torch.double))
    assert course.count == 6
    assert course.images.tolist() == [1, 2, 2, 1]
    assert course.class_accuracy[:, 1].tolist() == [0.5, 0.5, 0.5, 0.5, 1, 1, 0, 0]
    assert course.final == pytest.approx(5 / 6)
    assert (course.time_to(0.4), course.time_to(0.8), course.time_to(1.0)) == (2, 6, 10)
    sure, unsure = (math.exp(h) / (math.exp(3) + 3) for h in (3, 0))
    expected = (right * sure + (6 - right) * unsure) / 6
    assert torch.allclose(course.confidence.double(), expected.double(), rtol=1e-6)


def test_only_the_image_that_goes_counts_as_final():
    batch = (torch.tensor([[1.0, 3.0]]), torch.tensor([1]))
    course = accuracy_over_time(Late(), [batch], warmup_ms=0, stimulus_ms=4)
    assert course.final == 0
    assert course.time_to() == 2  # every accuracy is at least a share of none


def test_cordsnet_answers_as_classify_does(cordsnet):
    images, labels = torch.rand(4, 1, 17, 21), torch.tensor([0, 1, 2, 3])
    course = accuracy_over_time(cordsnet, [(images, labels)], warmup_ms=20, stimulus_ms=30)
    for step in (1, 7, 15):
        logits = cordsnet.classify(images, warmup_ms=20, stimulus_ms=2 * step)
        sure = logits.softmax(1).gather(1, labels[:, None]).mean()
        assert torch.allclose(course.confidence[step - 1], sure, rtol=1e-5)
        assert course.correct[step - 1].sum() == (logits.argmax(1) == labels).sum()


def test_the_short_way_of_cordsnet_gives_the_numbers_of_the_plain_one(cordsnet):
    """A pathway of one stage hides that it is a CordsNet."""
    batches = [(torch.rand(3, 1, 17, 21), torch.tensor([4, 0, 2]))]
    times = {"warmup_ms": 10, "stimulus_ms": 20, "off_ms": 10}
    short = accuracy_over_time(cordsnet, batches, **times)
    plain = accuracy_over_time(Pathway(net=cordsnet), batches, **times)
    assert torch.allclose(short.confidence, plain.confidence, atol=1e-6)
    assert short.confidence.std() > 1e-4


def test_intervals_are_those_of_wilson():
    """The worked figures: 81 of 263, 15 of 148 and 0 of 20 (95 %)."""
    low, high = wilson(torch.tensor([81, 15, 0]), torch.tensor([263, 148, 20]))
    assert torch.allclose(low, torch.tensor([0.2553, 0.0624, 0.0]).double(), atol=5e-5)
    assert torch.allclose(high, torch.tensor([0.3662, 0.1605, 0.1611]).double(), atol=5e-5)
    assert standard_error(torch.tensor([1, 2]), 4).tolist() == pytest.approx(
        [math.sqrt(3 / 64), 0.25]
    )
    with pytest.raises(InputError, match="0 < level < 1"):
        wilson(torch.tensor([1]), 2, level=1.0)


def test_an_interval_holds_the_accuracy():
    labels = torch.tensor([1, 2, 3, 1])
    batch = (torch.stack([labels, torch.tensor([1, 2, 3, 4])], 1).float(), labels)
    course = accuracy_over_time(Late(), [batch], warmup_ms=0, stimulus_ms=8)
    low, high = course.interval(0.9)
    assert (low <= course.accuracy).all()
    assert (course.accuracy <= high).all()
    assert (high - low > 0.1).all()
    assert course.standard_error.tolist() == pytest.approx([0.75**0.5 / 4, 0.25, 0.75**0.5 / 4, 0])


@pytest.mark.parametrize(
    ("batches", "match"),
    [
        ([], "at least one batch"),
        ([(torch.ones(2, 2), torch.tensor([1, 9]))], "below the number of classes"),
        ([(torch.ones(2, 2), torch.tensor([1, -1]))], "class numbers from 0"),
        ([(torch.ones(0, 2), torch.ones(0).long())], "at least one image"),
        ([(torch.ones(2, 2), torch.tensor([1]))], "class numbers"),
        ([(torch.ones(2, 2), torch.ones(2, 4))], "not mixed"),
        ([(torch.ones(2, 2), [1, 2])], "got list"),
    ],
)
def test_bad_batches_are_refused(batches, match):
    with pytest.raises(InputError, match=match):
        accuracy_over_time(Late(), batches, warmup_ms=0)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"stimulus_ms": 0}, "stimulus_ms as a multiple"),
        ({"stimulus_ms": 3}, "stimulus_ms as a multiple"),
        ({"warmup_ms": -2}, "warmup_ms as a multiple"),
        ({"off_ms": math.nan}, "off_ms as a multiple"),
        ({"dt_ms": 0.0}, "dt_ms > 0"),
    ],
)
def test_times_are_multiples_of_the_step(settings, match):
    with pytest.raises(InputError, match=match):
        accuracy_over_time(Late(), [(torch.ones(1, 2), torch.tensor([1]))], **settings)


def test_a_model_without_memory_has_no_course():
    with pytest.raises(InputError, match="model with memory"):
        accuracy_over_time(nn.Flatten(), [(torch.ones(1, 2), torch.tensor([1]))])


def test_a_model_has_to_answer_with_logits(leaky):
    model = leaky(torch.tensor(10.0))
    with pytest.raises(ShapeError, match="Pathway"):
        accuracy_over_time(model, [(torch.ones(1, 2, 3), torch.tensor([1]))])


def test_an_answer_that_is_no_number_is_an_error():
    batch = (torch.tensor([[1.0, 1.0]]), torch.tensor([1]))
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        accuracy_over_time(Late(height=math.nan), [batch], stimulus_ms=4)


def test_shares_of_the_final_accuracy_are_shares():
    batch = (torch.tensor([[1.0, 1.0]]), torch.tensor([1]))
    course = accuracy_over_time(Late(), [batch], stimulus_ms=4)
    with pytest.raises(InputError, match="0 < share <= 1"):
        course.time_to(1.5)
