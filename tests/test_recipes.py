"""Recipes speak of the components that they name, and what is wrong in one is told as its own mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from installing import installed

from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.errors import UsageError

MINE = "recipe_parts"


@pytest.fixture(scope="module", autouse=True)
def recipe_parts() -> Iterator[None]:
    with installed(MINE):
        yield


def configured(**settings: Any) -> RunConfig:
    return resolve([Layer("test", {"disc": "mlp", **settings})])


@pytest.mark.parametrize(
    ("gen", "width"),
    [("dcgan", 48), (f"{MINE}/dcgan", 13), (f"{MINE}/my.net", 11), (f"{MINE}/new", 19), (f"{MINE}/plain", 7)],
)
def test_a_recipe_speaks_of_the_component_that_its_name_stands_for(gen: str, width: int) -> None:
    """The data set digits has ``gen/dcgan.width``, which is ganzoo's own."""
    assert configured(data="digits", gen=gen).gen.config.width == width


def test_an_unknown_part_in_a_recipe_is_the_recipes_mistake() -> None:
    with pytest.raises(UsageError, match=r"no discriminator 'critc' \(recipe of generator typo\)\. There is "):
        resolve([Layer("test", {"gen": f"{MINE}/typo"})])
    with pytest.raises(UsageError, match=r"no discriminator 'critc'\. There is "):
        configured(disc="critc")


def test_two_regularizers_of_one_name_are_not_one_that_is_asked_for_twice() -> None:
    with pytest.raises(UsageError, match=r"regularizers ganzoo/r1 and recipe_parts/r1 have one name, reg\.r1, for t"):
        configured(reg=("r1", f"{MINE}/r1"))
    for names in ("r1", "r1"), ("r1", "ganzoo/r1"), (f"{MINE}/r1", f"{MINE}/r1"):
        with pytest.raises(UsageError, match="The regularizer 'r1' is asked for twice"):
            configured(reg=names)
