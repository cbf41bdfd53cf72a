"""The launcher ``local``: the runs of a sweep as processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ganzoo.api import Component, hookimpl, option


@dataclass(frozen=True)
class LocalConfig:
    """Options of the launcher ``local``."""

    jobs: int = option(1, min=1, help="Runs at a time; they share the processor's cores.")


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The launcher."""
    yield Component(
        "launcher",
        "local",
        target="ganzoo_local.launcher:LocalLauncher",
        config=LocalConfig,
        summary="Processes on this machine, one or several at a time.",
    )
