"""Recipes: the signature is the schema, mistakes are named, nothing is lost in a round trip."""

from __future__ import annotations

import pytest
import torch
import yaml

from calcarine import recipe, registry
from calcarine.errors import FileFormatError, InputError, RecipeError, UnknownNameError
from calcarine.training import TrainingSettings


class Dot:
    """A dot.

    Args:
        radius_px: How far it
            reaches.
        label: What it is called.
        generator: A runtime fact.
    """

    def __init__(
        self,
        *,
        radius_px: float = 2.0,
        label: str = "dot",
        generator: torch.Generator | None = None,
    ) -> None:
        self.radius_px, self.label = radius_px, label


class Bar:
    """A bar."""

    def __init__(self, *, length_px: float) -> None:
        self.length_px = length_px


class DotTask:
    """Something to learn about dots."""

    def __init__(
        self,
        *,
        shape: Dot | Bar,
        dot: Dot,
        sizes: tuple[int, ...] = (1, 2),
        rate: float | None = None,
    ) -> None:
        self.shape, self.dot, self.sizes, self.rate = shape, dot, sizes, rate
        self.noise = torch.rand(3)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    recipe._recipe_schema.cache_clear()
    for name, cls, kind in [
        ("dot", Dot, "stage"),
        ("bar", Bar, "stage"),
        ("dots", DotTask, "task"),
    ]:
        registry.register(name, cls, kind=kind)


GOOD = {"task": "dots", "name": "a", "shape": {"type": "bar", "length_px": 3}}


def test_a_folder_is_no_recipe(tmp_path, monkeypatch):
    """A folder with the name of a recipe does not hide it; any other is told from a file."""
    monkeypatch.chdir(tmp_path)
    for name in ("color-64", "mine"):
        (tmp_path / name).mkdir()
    assert recipe.load("color-64").to_dict()["name"] == "color-64"
    with pytest.raises(FileFormatError, match="train --run mine --resume"):
        recipe.load("mine")


@pytest.mark.parametrize("part", ["inhibition", "positions", "movement"])
def test_a_word_that_yaml_takes_for_a_truth_value_stays_a_word(part, tmp_path):
    """``true`` is what a part of the cortex is told by, with and without quotes."""
    plain = recipe.load("color-64", [f"cortex.{part}=true"])
    assert plain.to_dict()["cortex"][part] == "true"
    plain.build_task()
    assert plain.to_dict() == recipe.load("color-64", [f"cortex.{part}='true'"]).to_dict()
    path = tmp_path / "recipe.yaml"
    path.write_text(plain.to_yaml())
    assert recipe.load(path).to_dict() == plain.to_dict()
    with pytest.raises(RecipeError, match=f"cortex.{part}: input should be"):
        recipe.load("color-64", [f"cortex.{part}=false"])


def test_the_signature_is_the_schema():
    fields = recipe.schema(Dot).model_fields
    assert list(fields) == ["radius_px", "label", "type"]
    assert fields["radius_px"].description == "How far it reaches."
    assert fields["radius_px"].default == 2.0


def test_sections_are_built_inside_out_with_defaults_filled_in():
    task = recipe.load(GOOD).build_task()
    assert isinstance(task.shape, Bar)
    assert task.shape.length_px == 3.0
    assert isinstance(task.dot, Dot)
    assert task.sizes == (1, 2)


def test_yaml_round_trip_keeps_everything(tmp_path):
    first = recipe.load({**GOOD, "rate": "1e-3", "seed": 7, "training": {"updates": 12}})
    assert first.config.rate == 1e-3
    path = first.save(tmp_path / "deep" / "recipe.yaml")
    again = recipe.load(path)
    assert again == first
    assert again.training == TrainingSettings(updates=12)
    assert again.to_yaml() == first.to_yaml()


def test_overrides_reach_every_level_and_leave_the_source_alone():
    source = {**GOOD, "dot": {"radius_px": 1.0}}
    made = recipe.load(
        source, ["dot.radius_px=4", "shape={type: dot}", "training.updates=9", "sizes=[3, 4, 5]"]
    )
    assert made.config.dot.radius_px == 4.0
    assert made.config.shape.type == "dot"
    assert made.config.sizes == (3, 4, 5)
    assert made.training.updates == 9
    assert source["dot"] == {"radius_px": 1.0}


def test_every_mistake_is_named_at_once():
    bad = {**GOOD, "dot": {"radius": 1}, "sizes": "many", "training": {"updats": 3}, "name": "a/b"}
    with pytest.raises(RecipeError) as caught:
        recipe.load(bad)
    text = str(caught.value)
    assert "4 mistake(s)" in text
    assert "dot.radius: unknown key. Did you mean 'radius_px'?" in text
    assert "training.updats: unknown key. Did you mean 'updates'?" in text
    assert "sizes:" in text
    assert "name:" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": {"type": "bar"}}, "shape.bar.length_px: field required"),
        ({"shape": {"type": "disk"}}, "shape"),
        ({"seed": -1}, "seed"),
        ({"format": 99}, "newer than format 1"),
    ],
)
def test_impossible_values_are_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        recipe.load({**GOOD, **change})


@pytest.mark.parametrize("override", ["dot.radius_px", "=3", "dot..x=1", "name.first=b", "dot=[1"])
def test_overrides_that_cannot_be_read_are_refused(override):
    with pytest.raises(RecipeError):
        recipe.load(GOOD, [override])


def test_tasks_and_recipes_have_to_be_known(tmp_path):
    with pytest.raises(RecipeError, match="expected a key 'task'"):
        recipe.load({"name": "a"})
    with pytest.raises(UnknownNameError, match="Did you mean 'dots'"):
        recipe.load({**GOOD, "task": "dotz"})
    with pytest.raises(UnknownNameError, match="Did you mean 'color-sandbox'"):
        recipe.load("color-sandbx")
    with pytest.raises(FileFormatError, match="No such file"):
        recipe.load(tmp_path / "none.yaml")


def test_files_that_are_not_recipes_are_refused(tmp_path):
    for name, content in {
        "a.yaml": b"a: [1",
        "b.yaml": b"- 1\n",
        "c.yaml": b"\xff\xfe\x00",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match=name):
            recipe.load(tmp_path / name)


def test_yaml_cannot_run_code(tmp_path):
    target = tmp_path / "ran"
    (tmp_path / "evil.yaml").write_text(f"name: !!python/object/apply:os.mkdir ['{target}']\n")
    with pytest.raises(FileFormatError):
        recipe.load(tmp_path / "evil.yaml")
    assert not target.exists()


def test_the_seed_acts_inside_building_only():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (recipe.load(GOOD).build_task() for _ in range(2))
    other = recipe.load({**GOOD, "seed": 1}).build_task()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.noise, second.noise)
    assert not torch.equal(first.noise, other.noise)


def test_a_parameter_that_yaml_cannot_hold_needs_a_default():
    class Needs:
        def __init__(self, *, field: torch.Tensor) -> None: ...

    with pytest.raises(InputError, match=r"Needs\(field=...\) cannot be written"):
        recipe.schema(Needs)


@pytest.mark.parametrize("name", recipe.recipe_names())
def test_recipes_that_come_along_are_complete(name):
    made = recipe.load(name)
    assert made.name == name
    assert made.config.description
    written = yaml.safe_load(made.to_yaml())
    assert recipe.load(written) == made
