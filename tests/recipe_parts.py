"""A plugin whose components have names like others', and recipes that speak of some of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ganzoo.api import Component, hookimpl, option


@dataclass(frozen=True)
class WideConfig:
    """Options of its generators."""

    width: int = option(7, min=1, help="Units.")


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """All."""
    aimed = {"gen/my.net.width": 11, "gen/recipe_parts/dcgan.width": 13, "gen/nobody.width": 17, "gen/old.width": 19}
    yield Component("generator", "dcgan", "sound_parts:Net", config=WideConfig, recipe=aimed)
    yield Component("generator", "my.net", "sound_parts:Net", config=WideConfig, recipe=aimed)
    yield Component("generator", "new", "sound_parts:Net", config=WideConfig, recipe=aimed, aliases=("old",))
    yield Component("generator", "plain", "sound_parts:Net", config=WideConfig)
    yield Component("generator", "typo", "sound_parts:Net", recipe={"disc": "critc"})
    yield Component("regularizer", "r1", "ganzoo_regularizers.penalties:R2")
