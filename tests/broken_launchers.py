"""A plugin with a launcher that keeps none of the promises of launchers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ganzoo.api import Component, Job, Launcher, Outcome, hookimpl


class Boaster(Launcher):
    """Says of each job that it ended well, and starts none."""

    @property
    def threads(self) -> None:
        return None

    def launch(self, jobs: Iterator[Job], stop: Callable[[], int]) -> Iterator[Outcome]:
        for job in jobs:
            yield Outcome(job, 0, 0.0)


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    yield Component("launcher", "boaster", target="broken_launchers:Boaster", summary="Starts nothing.")
