"""Every built-in component keeps the promises that plugin authors are held to."""

from __future__ import annotations

import pytest

from ganzoo.errors import MissingError
from ganzoo.registry import registry
from ganzoo.testing import Check, checks_for

SMALL = {
    "width": 6,
    "latent_dim": 5,
    "model": "shufflenet_v2_x0_5",
    "download": False,
    "split": "test",
    "labelled": True,
}
"""Options that make a component quick to check, where it has them."""
OWN_FILES = ("folder", "npz")


def built_ins() -> list[Check]:
    found = []
    for entry in registry().entries():
        if entry.plugin.builtin and entry.component.name not in OWN_FILES:
            known = {opt.name for opt in entry.options}
            options = {name: value for name, value in SMALL.items() if name in known}
            found += checks_for(entry.component.kind, entry.id, **options)
    return found


@pytest.mark.parametrize("check", built_ins(), ids=lambda check: f"{check.subject}: {check}".replace(" ", "-"))
def test_a_built_in_keeps_its_promises(check: Check) -> None:
    try:
        check()
    except MissingError as missing:
        pytest.skip(str(missing))
